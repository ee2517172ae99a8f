use std::sync::Arc;

use buildkit_util_system::Timestamp;

use crate::ModeChange;

/// Owner of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The owner that an entry gets, given the one that its source has, or nothing for directories that
/// are made on the way to the destination. `None` leaves the owner as the system sets it.
pub type ChownFn = Arc<dyn Fn(Option<Owner>) -> Option<Owner> + Send + Sync>;

/// How something is copied.
#[derive(Clone, Default)]
pub struct CopyOptions {
    /// The source path has wildcards; all that match are copied.
    pub allow_wildcards: bool,
    /// If the source is a symbolic link, copy what it leads to. Links on the way are always followed,
    /// inside the root.
    pub follow_links: bool,
    /// If the source is a directory, copy what is in it, not the directory itself into an existing
    /// destination.
    pub copy_dir_contents: bool,
    /// Entries below the source must match one of these patterns; empty for all.
    pub include: Vec<String>,
    /// Entries below the source must match none of these patterns.
    pub exclude: Vec<String>,
    /// Permissions (`07777`) of everything that is made; `None` keeps those of the source, and makes
    /// directories on the way `0755`.
    pub mode: Option<u32>,
    /// How permissions are changed. Comes before `mode`.
    pub mode_change: Option<ModeChange>,
    /// Owners of everything that is made; `None` keeps those of the source.
    pub chown: Option<ChownFn>,
    /// Time of everything that is made; `None` keeps those of the source.
    pub time: Option<Timestamp>,
    /// Whatever is in the way is removed, but directories that become directories are merged.
    pub always_replace: bool,
    /// Attributes that cannot be copied are left out; otherwise they are errors.
    pub ignore_xattr_errors: bool,
}
