use std::path::PathBuf;
use std::time::Duration;

use buildkit_errdefs::{Classify, Kind};
use bytes::Bytes;

/// A named part of a store with its own keys. Names have no NUL byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(&'static str);

impl Bucket {
    /// A bucket of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key, prefix included.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// Changes that happen together or not at all, in any number of buckets. Later ones win.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) bucket: Bucket,
    pub(crate) key: Bytes,
    /// `None` removes the key.
    pub(crate) value: Option<Bytes>,
}

impl Batch {
    /// A batch without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn put(&mut self, bucket: Bucket, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.changes.push(Change { bucket, key: key.into(), value: Some(value.into()) });
        self
    }

    /// Removes a key; nothing happens if it does not exist.
    pub fn delete(&mut self, bucket: Bucket, key: impl Into<Bytes>) -> &mut Self {
        self.changes.push(Change { bucket, key: key.into(), value: None });
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Bytes of keys and values, about what the batch occupies.
    pub(crate) fn weight(&self) -> usize {
        self.changes
            .iter()
            .map(|change| 64 + change.key.len() + change.value.as_ref().map_or(0, Bytes::len))
            .sum()
    }
}

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the store open.
    #[error("Cannot open `{path}`: another buildkitd uses this root")]
    InUse {
        /// The directory of the store.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("Failed to {action}")]
    Io {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The database did not answer in time. What was applied is kept in memory.
    #[error("Metadata database did not {action} within {} s", .limit.as_secs())]
    Deadline {
        /// What was attempted.
        action: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// The database does not work at the moment. What was applied is kept in memory, and written
    /// when the database can be made again.
    #[error("Metadata database is not written: {reason}")]
    Degraded {
        /// What is wrong.
        reason: String,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } => Kind::FailedPrecondition,
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Deadline { .. } => Kind::DeadlineExceeded,
            Self::Degraded { .. } => Kind::Unavailable,
        }
    }
}

/// A small ordered key-value store for facts that can be rebuilt or lost without harm.
///
/// Every key belongs to a [`Bucket`]. A [`Batch`] is atomic, across buckets too, for readers and
/// across a crash. Reads see every batch that was applied before, come from memory and never wait
/// for a disk. What was applied reaches the disk soon, and for certain once [`flush`](Self::flush)
/// has returned without error; a process that is killed loses at most the last second.
///
/// A damaged store never keeps its owner from starting: it opens empty instead.
pub trait MetadataStore: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// All entries whose key starts with `prefix`, in the order of their keys, as of one moment.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn range(&self, bucket: Bucket, prefix: &[u8]) -> Result<Vec<Entry>, Error>;

    /// Applies a batch. Does not wait for a disk.
    ///
    /// # Errors
    /// When the store takes no changes.
    fn apply(&self, batch: Batch) -> Result<(), Error>;

    /// Waits until all that was applied is with the operating system. Blocks: call it where blocking
    /// is allowed.
    ///
    /// # Errors
    /// When the database failed or did not answer in time; the store goes on from memory.
    fn flush(&self) -> Result<(), Error>;

    /// Bytes that the store occupies on disk.
    ///
    /// # Errors
    /// When the files cannot be looked at.
    fn size_on_disk(&self) -> Result<u64, Error>;
}
