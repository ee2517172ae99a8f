use buildkit_errdefs::{Classify, Kind};

use crate::{FilterError, RefId};

/// Why the cache failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such record, or its files are gone.
    #[error("Cache record `{0}` does not exist")]
    NotFound(RefId),
    /// Somebody holds the record, which only one may.
    #[error("Cache record `{0}` is locked")]
    Locked(RefId),
    /// The record is not of the kind that was asked for.
    #[error("Cache record `{0}` is not mutable")]
    NotMutable(RefId),
    /// A filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Snapshots failed.
    #[error("Failed to {action}")]
    Snapshot {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        #[source]
        source: buildkit_snapshot::Error,
    },
    /// Metadata failed.
    #[error("Failed to {action}")]
    Metadata {
        /// What was attempted, on what.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: buildkit_cache_metadata::Error,
    },
    /// The file system could not be asked.
    #[error("Failed to {action}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Work did not come to its end.
    #[error("Failed to {action}: {reason}")]
    Interrupted {
        /// What was attempted.
        action: &'static str,
        /// What happened to it.
        reason: String,
    },
}

impl Error {
    pub(crate) fn snapshot(action: impl Into<String>) -> impl FnOnce(buildkit_snapshot::Error) -> Self {
        let action = action.into();
        move |source| Self::Snapshot { action, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Locked(_) => Kind::Aborted,
            Self::NotMutable(_) => Kind::FailedPrecondition,
            Self::Filter(error) => error.kind(),
            Self::Snapshot { source, .. } => source.kind(),
            Self::Metadata { source, .. } => source.kind(),
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Interrupted { .. } => Kind::Internal,
        }
    }
}
