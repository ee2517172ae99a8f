use std::io;

use buildkit_errdefs::{BoxError, Classify, Kind};

/// Why a tree could not be walked, sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused an operation on an entry.
    #[error("failed to {action} `{path}`: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Path inside the tree.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what its attributes said when it was to be sent.
    #[error("`{path}` changed while it was sent: {reason}")]
    Changed {
        /// Path inside the tree.
        path: String,
        /// What was found.
        reason: String,
    },
    /// A name cannot be sent: the protocol carries only UTF-8.
    #[error("Name `{0}` is not valid UTF-8")]
    NotUtf8(String),
    /// The peer sent something that the protocol does not allow.
    #[error("{0}")]
    Protocol(String),
    /// The sending peer reports an error.
    #[error("error from sender: {0}")]
    Sender(String),
    /// The receiving peer reports an error.
    #[error("error from receiver: {0}")]
    Receiver(String),
    /// Include or exclude patterns are malformed.
    #[error("{0}: {1}")]
    Patterns(String, #[source] buildkit_util_patternmatcher::Error),
    /// A tree is put together of parts that do not fit.
    #[error("{0}")]
    Compose(String),
    /// The connection broke.
    #[error("{0}")]
    Transport(#[source] BoxError),
    /// The connection ended in the middle of a transfer.
    #[error("Transfer ended before it was complete")]
    Ended,
    /// The one who is told of changes failed.
    #[error("{0}")]
    Hook(#[source] BoxError),
    /// The work was stopped or panicked.
    #[error("File transfer failed")]
    Task(#[source] buildkit_util_appcontext::TaskError),
}

impl Error {
    pub(crate) fn changed(path: &str, reason: impl Into<String>) -> Self {
        Self::Changed { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn io(action: &'static str, path: &str, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// Whether something that was named does not exist, or not any more.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
    }

    pub(crate) fn is_permission(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::NotUtf8(_) | Self::Protocol(_) | Self::Patterns(..) | Self::Compose(_) => {
                Kind::InvalidArgument
            }
            Self::Changed { .. } => Kind::FailedPrecondition,
            Self::Sender(_) | Self::Receiver(_) => Kind::Unknown,
            Self::Transport(_) | Self::Ended => Kind::Unavailable,
            Self::Hook(_) | Self::Task(_) => Kind::Internal,
        }
    }
}
