use buildkit_cache::FilterError;
use buildkit_errdefs::{Classify, Kind};

/// Why the history does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such record.
    #[error("failed to retrieve ref {0}: file does not exist")]
    NotFound(String),
    /// The record is deleted as soon as nobody listens for it any more.
    #[error("ref {0} is deleted: file does not exist")]
    Deleted(String),
    /// The build is not over yet.
    #[error("Record of build `{0}` cannot be deleted: the build still runs")]
    Running(String),
    /// A filter has not the form.
    #[error("failed to parse history filters {filter:?}: {source}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong.
        source: FilterError,
    },
    /// A filter, or the limit, has a value that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A listener did not take events while many happened.
    #[error("{0} events of the build history were missed: the listener reads too slowly")]
    Missed(u64),
    /// A record is not one.
    #[error("Record of build `{0}` is damaged")]
    Damaged(String),
    /// The database failed.
    #[error("Failed to {action}: {source}")]
    Metadata {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: buildkit_cache_metadata::Error,
    },
    /// A blob cannot be read or written.
    #[error("Failed to {action}: {source}")]
    Content {
        /// What was attempted.
        action: String,
        /// Why it failed.
        source: buildkit_util_contentutil::Error,
    },
}

impl Error {
    pub(crate) fn metadata(action: &'static str) -> impl FnOnce(buildkit_cache_metadata::Error) -> Self {
        move |source| Self::Metadata { action, source }
    }

    pub(crate) fn content(
        action: impl Into<String>,
    ) -> impl FnOnce(buildkit_util_contentutil::Error) -> Self {
        let action = action.into();
        move |source| Self::Content { action, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            // Clients of the original know these by their text only.
            Self::NotFound(_) | Self::Deleted(_) => Kind::Unknown,
            Self::Running(_) => Kind::FailedPrecondition,
            Self::Filter { .. } | Self::Invalid(_) => Kind::InvalidArgument,
            Self::Missed(_) => Kind::ResourceExhausted,
            Self::Damaged(_) => Kind::DataLoss,
            Self::Metadata { source, .. } => source.kind(),
            Self::Content { source, .. } => source.kind(),
        }
    }
}
