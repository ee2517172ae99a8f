use buildkit_errdefs::{Classify, Kind};
use buildkit_util_grpcerrors::RemoteError;

/// Why the daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] buildkit_client_connhelper::Error),
    /// The connection broke while it was set up.
    #[error("Failed to talk to the daemon at `{address}`: {source}")]
    Transport {
        /// Where the daemon is.
        address: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// The build failed; details say where.
    #[error("failed to solve: {0}")]
    Solve(RemoteError),
    /// The daemon refused a request.
    #[error("{action}: {error}")]
    Request {
        /// What was asked for.
        action: &'static str,
        /// What the daemon said.
        error: RemoteError,
    },
    /// The build was given up.
    #[error("failed to solve: context canceled")]
    Canceled,
    /// The build's own settings contradict each other.
    #[error("{0}")]
    Settings(String),
    /// What was exported could not be named in the index of its layout.
    #[error(transparent)]
    Index(#[from] buildkit_client_ociindex::Error),
    /// The daemon's answer makes no sense.
    #[error("Answer of the daemon has a malformed `{key}`: {reason}")]
    Response {
        /// The part of it.
        key: &'static str,
        /// Why.
        reason: String,
    },
    /// What the daemon sent could not be passed on.
    #[error("Failed to write what the daemon sent: {0}")]
    Write(#[source] std::io::Error),
    /// The session that serves the build's files broke.
    #[error("Session with the daemon broke: {0}")]
    Session(String),
}

impl Error {
    pub(crate) fn settings(message: impl Into<String>) -> Self {
        Self::Settings(message.into())
    }

    pub(crate) fn response(key: &'static str, reason: impl ToString) -> Self {
        Self::Response { key, reason: reason.to_string() }
    }

    pub(crate) fn request(action: &'static str, status: &tonic::Status) -> Self {
        Self::Request { action, error: remote(status) }
    }

    /// What the daemon said, if it said something.
    pub fn remote(&self) -> Option<&RemoteError> {
        match self {
            Self::Solve(error) | Self::Request { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Transport { .. } | Self::Session(_) => Kind::Unavailable,
            Self::Solve(error) | Self::Request { error, .. } => error.kind(),
            Self::Canceled => Kind::Cancelled,
            Self::Settings(_) => Kind::InvalidArgument,
            Self::Index(error) => error.kind(),
            Self::Write(error) => Kind::of_io(error),
            Self::Response { .. } => Kind::Internal,
        }
    }
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the daemon, or of the way to it with its causes.
pub(crate) fn remote(status: &tonic::Status) -> RemoteError {
    let mut error = RemoteError::from_status(status);
    let mut cause = std::error::Error::source(status);
    while let Some(source) = cause {
        let text = source.to_string();
        if !error.message.ends_with(&text) {
            error.message.push_str(": ");
            error.message.push_str(&text);
        }
        cause = source.source();
    }
    error
}
