use std::sync::Arc;

use buildkit_errdefs::{BoxError, Classify, Kind};
use buildkit_util_cachedigest::Digest;

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
    /// Nobody has a blob that is needed.
    #[error("Blob `{0}` is not here and nobody offers it")]
    NoSource(Digest),
    /// A blob could not be fetched, read or stored.
    #[error("blob `{digest}`: {source}")]
    Blob {
        /// Which.
        digest: Digest,
        /// Why.
        source: buildkit_util_contentutil::Error,
    },
    /// A layer could not be unpacked.
    #[error("failed to unpack layer `{digest}`: {source}")]
    Unpack {
        /// Its blob.
        digest: Digest,
        /// Why.
        source: buildkit_util_archive::Error,
    },
    /// A layer is not the one that its image says it is.
    #[error("layer `{digest}` has the content `{found}`, not `{expected}` as its image says")]
    WrongLayer {
        /// Its blob.
        digest: Digest,
        /// What the image says.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A layer could not be made.
    #[error("failed to make a layer of cache record `{id}`: {source}")]
    Layer {
        /// The record.
        id: RefId,
        /// Why.
        source: BoxError,
    },
    /// A layer could not be brought into another form.
    #[error("failed to convert layer `{digest}`: {source}")]
    Convert {
        /// Its blob.
        digest: Digest,
        /// Why.
        source: BoxError,
    },
    /// A layer refers to files of its parents, which are not there yet.
    #[error("the layer needs its parents")]
    NeedsParent,
    /// What others have run into, who wanted the same.
    #[error(transparent)]
    Shared(Arc<Error>),
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
    pub(crate) fn blob(digest: &Digest, source: buildkit_util_contentutil::Error) -> Self {
        Self::Blob { digest: digest.clone(), source }
    }

    /// Whether a blob is not there or damaged, so that it may help to get it anew.
    pub fn is_lost_blob(&self) -> bool {
        use buildkit_util_contentutil::Error as BlobError;
        match self {
            Self::NoSource(_) => true,
            Self::Blob { source: BlobError::NotFound(_) | BlobError::Damaged(_), .. } => true,
            Self::Shared(error) => error.is_lost_blob(),
            _ => false,
        }
    }

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
            Self::NoSource(_) => Kind::NotFound,
            Self::Blob { source, .. } => source.kind(),
            Self::Unpack { source, .. } => source.kind(),
            Self::WrongLayer { .. } => Kind::DataLoss,
            Self::Shared(error) => error.kind(),
            Self::Layer { .. } | Self::Convert { .. } => Kind::Unknown,
            Self::NeedsParent | Self::Interrupted { .. } => Kind::Internal,
        }
    }
}
