use std::fmt;

use buildkit_errdefs::{BoxError, Classify, Kind};

/// Why a build did not give a result. `E` is the error of the ops ([`Domain::Error`](crate::Domain)).
#[derive(Clone, Debug)]
pub enum Error<E> {
    /// An op failed; all who wanted its result get this.
    Op(E),
    /// The job ended before the build did.
    Cancelled,
    /// The graph, the edge or the job id cannot be used.
    Invalid(String),
    /// A job of this id is there already.
    AlreadyExists(String),
    /// The solver or an op broke a rule of ours, such as by a panic.
    Internal(String),
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Op(error) => error.fmt(f),
            Self::Cancelled => f.write_str("context canceled"),
            Self::Invalid(text) | Self::AlreadyExists(text) | Self::Internal(text) => f.write_str(text),
        }
    }
}

impl<E: std::error::Error> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The op's error speaks for itself, so it is not its own source.
            Self::Op(error) => error.source(),
            _ => None,
        }
    }
}

impl<E: Classify> Classify for Error<E> {
    fn kind(&self) -> Kind {
        match self {
            Self::Op(error) => error.kind(),
            Self::Cancelled => Kind::Cancelled,
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::AlreadyExists(_) => Kind::AlreadyExists,
            Self::Internal(_) => Kind::Internal,
        }
    }
}

/// A broken rule inside the solver or an op, travelling as the failure of an edge.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InternalError(pub String);

impl Classify for InternalError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// A store of keys could not answer. The solver takes it for a miss and goes on.
#[derive(Debug, thiserror::Error)]
#[error("Failed to {action} the cache key store")]
pub struct StoreError {
    /// What was attempted, such as `query`.
    pub action: &'static str,
    /// Why it failed.
    #[source]
    pub source: BoxError,
}

impl Classify for StoreError {
    fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}
