use std::sync::Arc;

use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend::{BridgeError, FailedState};
use buildkit_util_apicaps::CapError;
use buildkit_util_grpcerrors::RemoteError;

/// Why a definition was refused or an op failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The definition makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The definition is larger than anything that makes sense.
    #[error("{0}")]
    TooLarge(String),
    /// An op needs what this daemon does not do.
    #[error(transparent)]
    Capability(#[from] CapError),
    /// The wire form of an op is damaged.
    #[error("failed to parse llb proto op: {0}")]
    Wire(Arc<buildkit_solver_pb::Error>),
    /// An op failed.
    #[error(transparent)]
    Failed(BridgeError),
    /// Nobody wanted the result any more.
    #[error("context canceled")]
    Cancelled,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) | Self::Wire(_) => Kind::InvalidArgument,
            Self::TooLarge(_) => Kind::ResourceExhausted,
            Self::Capability(error) => error.kind(),
            Self::Failed(error) => error.kind(),
            Self::Cancelled => Kind::Cancelled,
        }
    }
}

impl Error {
    /// Adds the state of the step that failed.
    pub(crate) fn with_state(self, state: FailedState) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(BridgeError { state: Some(Arc::new(state)), ..error }),
            other => other,
        }
    }

    /// The error as clients get it; cancellations stay what they are.
    pub(crate) fn into_failed(self) -> Self {
        match self {
            Self::Failed(_) | Self::Cancelled => self,
            other => Self::Failed(BridgeError::from(RemoteError::from_error(&other))),
        }
    }
}
