use std::error::Error as _;

use buildkit_errdefs::{Classify, Kind};
use tonic::{Code, Status};

/// Why files were not transferred.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client shares no directories.
    #[error("no local sources enabled")]
    NoSources,
    /// The client does not receive anything.
    #[error("method {0} not supported by the client")]
    Unsupported(String),
    /// The client does not share the directory.
    #[error("{0}")]
    NoAccess(String),
    /// The client has what was to be sent.
    #[error("{0}")]
    AlreadyExists(String),
    /// The client refused, failed or is gone.
    #[error("{message}")]
    Client {
        /// Whose fault it is.
        kind: Kind,
        /// What the client said.
        message: String,
    },
    /// The transfer failed.
    #[error("{0}")]
    Transfer(#[source] buildkit_util_fsutil::Error),
    /// The work was stopped or panicked.
    #[error("File transfer failed")]
    Task(#[source] buildkit_util_appcontext::TaskError),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSources | Self::Unsupported(_) => Kind::FailedPrecondition,
            Self::NoAccess(_) => Kind::NotFound,
            Self::AlreadyExists(_) => Kind::AlreadyExists,
            Self::Client { kind, .. } => *kind,
            Self::Transfer(error) => error.kind(),
            Self::Task(_) => Kind::Internal,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::AlreadyExists => Self::AlreadyExists(message),
            Code::NotFound => Self::NoAccess(message),
            code => Self::Client { kind: Kind::from_code(code as i32), message },
        }
    }
}

impl From<buildkit_util_fsutil::Error> for Error {
    fn from(error: buildkit_util_fsutil::Error) -> Self {
        if let buildkit_util_fsutil::Error::Transport(source) = &error
            && let Some(status) = source.downcast_ref::<Status>()
        {
            return status.clone().into();
        }
        Self::Transfer(error)
    }
}

/// What a peer is told of an error.
pub(crate) fn status_of(error: &buildkit_util_fsutil::Error) -> Status {
    if let Some(status) = error.source().and_then(|source| source.downcast_ref::<Status>()) {
        return status.clone();
    }
    Status::new(Code::from_i32(error.kind().code()), error.to_string())
}
