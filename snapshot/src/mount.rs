use std::path::PathBuf;

/// How a [`Mount`] is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Bind mount of `source`.
    Bind,
    /// An overlay of `lower` directories, topmost first, below `upper`. Without `upper` it is read-only
    /// and has at least two lower directories.
    Overlay {
        /// Read-only layers, topmost first.
        lower: Vec<PathBuf>,
        /// Where changes go.
        upper: Option<PathBuf>,
        /// Work directory of the kernel, on the file system of `upper`.
        work: Option<PathBuf>,
        /// More options in the kernel's words, such as `index=off`.
        options: Vec<String>,
    },
    /// A tmpfs with options in the kernel's words.
    Tmpfs {
        /// Such as `size=1m`.
        options: Vec<String>,
    },
}

/// What the content of a snapshot is mounted from. Making the mount changes nothing in the snapshot.
///
/// A snapshot without layers below it, or a read-only one of one layer, is a bind mount, so that
/// whoever only needs files can use [`source`](Self::source) without any mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// How.
    pub kind: MountKind,
    /// The directory (or file) of a bind mount; empty otherwise.
    pub source: PathBuf,
    /// Whether nothing may be written through the mount.
    pub readonly: bool,
}
