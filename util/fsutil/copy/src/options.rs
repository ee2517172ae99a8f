use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use buildkit_util_system::Timestamp;
use rustix::fs::Stat;

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
    /// Where files of the source may become files of the destination under a second name; see
    /// [`SharedFiles`].
    pub share: Option<Arc<SharedFiles>>,
}

/// The files that a tree has in common with the trees that it was copied from.
///
/// Copies that are given this link a file instead of copying it, if it is to have the content and all the
/// attributes of its source. Content and attributes of such a file must not change any more under any of its
/// names. Each file is linked once into the tree that this belongs to, besides hard links of the source that
/// are copied together: the tree has as many names of one file as it would have with copies.
#[derive(Debug, Default)]
pub struct SharedFiles {
    inodes: Mutex<HashSet<(u64, u64)>>,
}

impl SharedFiles {
    /// For a tree that has no file in common with others.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a file is going to be in the tree. `false` if it is in it.
    pub(crate) fn insert(&self, stat: &Stat) -> bool {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner).insert((stat.st_dev, stat.st_ino))
    }
}
