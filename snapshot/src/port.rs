use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_errdefs::{BoxError, Classify, Kind};

use crate::Mount;

/// Key of a snapshot that is being written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActiveKey(pub String);

/// Name of a committed snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotName(pub String);

/// A snapshot in any state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AnySnapshot {
    /// One that is being written.
    Active(ActiveKey),
    /// One that never changes.
    Committed(SnapshotName),
}

/// State of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Being written.
    Active,
    /// Read-only for ever.
    Committed,
}

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Key or name.
    pub name: String,
    /// The committed snapshot below it.
    pub parent: Option<SnapshotName>,
    /// Its state.
    pub kind: SnapshotKind,
    /// When it was made.
    pub created: SystemTime,
}

/// Disk use of one snapshot without its parents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes allocated; a file with several links counts once.
    pub size: u64,
    /// Inodes.
    pub inodes: u64,
}

/// One piece of a merge: what changes from `lower` to `upper`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeInput {
    /// The state before; `None` is an empty tree.
    pub lower: Option<SnapshotName>,
    /// The state after; `None` is an empty tree.
    pub upper: Option<SnapshotName>,
}

/// A difference between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// New or changed, with its path below the root.
    Put(PathBuf),
    /// Gone, with all that was below it.
    Delete(PathBuf),
}

/// What the directory of a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The whole tree.
    Whole,
    /// What changes from the parent, as overlayfs keeps it.
    Changes {
        /// Attributes are in the `user.` namespace.
        userxattr: bool,
    },
}

/// Why a snapshotter failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No snapshot of this key or name.
    #[error("Snapshot `{0}` does not exist")]
    NotFound(String),
    /// The key or name is taken.
    #[error("Snapshot `{0}` already exists")]
    AlreadyExists(String),
    /// The snapshot is not in the state that the call needs, or is still used.
    #[error("Snapshot `{name}`: {reason}")]
    Precondition {
        /// Key or name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The system refused.
    #[error("Failed to {action}")]
    Io {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Something else below failed.
    #[error("Failed to {action}")]
    Other {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::AlreadyExists(_) => Kind::AlreadyExists,
            Self::Precondition { .. } => Kind::FailedPrecondition,
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Other { .. } => Kind::Unknown,
        }
    }
}

/// Layered file trees.
///
/// A snapshot starts *active*: [`prepare`](Self::prepare) makes it, on top of a committed parent or
/// empty, and whoever mounts [`mounts`](Self::mounts) changes it. [`commit`](Self::commit) makes it
/// *committed* under a name: it never changes again and can be a parent. The parent of an active or
/// committed snapshot cannot be removed before it. Nothing is mounted by a snapshotter itself.
///
/// Usage is accounted when a snapshot is committed and kept with it. After a crash, `open` of an
/// implementation removes what no snapshot owns.
#[async_trait]
pub trait Snapshotter: Send + Sync + 'static {
    /// Name of the implementation, such as `overlayfs`.
    fn name(&self) -> &str;

    /// Makes an active snapshot. Fails with [`Error::AlreadyExists`] and [`Error::NotFound`] (parent).
    async fn prepare(&self, key: &ActiveKey, parent: Option<&SnapshotName>) -> Result<(), Error>;

    /// Makes an active snapshot committed. The key is free afterwards.
    async fn commit(&self, name: &SnapshotName, key: &ActiveKey) -> Result<Usage, Error>;

    /// Mounts of an active snapshot, for reading and writing.
    async fn mounts(&self, key: &ActiveKey) -> Result<Mount, Error>;

    /// Mounts of a committed snapshot, read-only.
    async fn view(&self, name: &SnapshotName) -> Result<Mount, Error>;

    /// Makes a committed snapshot of pieces laid over each other in order, later over earlier,
    /// deletions included. With hard links where the file system allows, else with copies. `base`
    /// semantics: if the first input has no `lower`, implementations may stack on its `upper`.
    async fn merge(&self, name: &SnapshotName, inputs: &[MergeInput]) -> Result<Usage, Error>;

    /// What directories of snapshots hold. Of those that hold changes, several on top of each other can be
    /// filled at the same time, and get their parents then: see [`rebase`](Self::rebase).
    fn form(&self) -> Form {
        Form::Whole
    }

    /// Puts an active snapshot that was made without a parent on top of one; what was written to it becomes
    /// what changes from the parent, so it must be in the [form](Self::form) of changes. The root directory
    /// gets the owner and mode of the parent's if `inherit_root` is set. Nothing of it may be mounted.
    async fn rebase(&self, key: &ActiveKey, parent: &SnapshotName, inherit_root: bool) -> Result<(), Error> {
        let _ = (parent, inherit_root);
        Err(Error::Precondition {
            name: key.0.clone(),
            reason: "its directory holds the whole tree".to_owned(),
        })
    }

    /// Directories that a committed snapshot is made of, topmost first: one with the whole tree, or those of
    /// overlayfs's layers.
    async fn directories(&self, name: &SnapshotName) -> Result<Vec<PathBuf>, Error>;

    /// Allows files of `source` to be hard-linked into an active snapshot under any names, once each.
    /// The caller must see to it that these files never change, under none of their names. Merges take
    /// care that a tree does not show two of the names as one file. `false` if that is not possible
    /// here; then nothing may be linked.
    async fn entwine(&self, key: &ActiveKey, source: &AnySnapshot) -> Result<bool, Error> {
        let _ = (key, source);
        Ok(false)
    }

    /// What changes from `lower` to `upper`, in path order.
    async fn changes(
        &self,
        lower: Option<&SnapshotName>,
        upper: Option<&SnapshotName>,
    ) -> Result<Vec<Change>, Error>;

    /// Removes an active snapshot and what was written to it.
    async fn discard(&self, key: &ActiveKey) -> Result<(), Error>;

    /// Removes a committed snapshot. Fails with [`Error::Precondition`] while it is a parent.
    async fn remove(&self, name: &SnapshotName) -> Result<(), Error>;

    /// What is known of a committed snapshot.
    async fn stat(&self, name: &SnapshotName) -> Result<Info, Error>;

    /// Disk use of an active snapshot now.
    async fn active_usage(&self, key: &ActiveKey) -> Result<Usage, Error>;

    /// Disk use of a committed snapshot.
    async fn usage(&self, name: &SnapshotName) -> Result<Usage, Error>;

    /// All snapshots, in no order.
    async fn list(&self) -> Result<Vec<Info>, Error>;
}
