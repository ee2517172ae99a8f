use std::fmt;

use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend_gateway_client::RemoteError;

/// An option of the user makes no sense. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionError(String);

impl OptionError {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }

    /// Says what failed so.
    pub(crate) fn doing(self, what: &str) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl Classify for OptionError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl From<OptionError> for RemoteError {
    fn from(error: OptionError) -> Self {
        Self::new(Kind::InvalidArgument, error.0)
    }
}

/// An error of the user's making.
pub(crate) fn invalid(text: impl fmt::Display) -> RemoteError {
    OptionError::new(text).into()
}

/// Says what failed with an error; its details stay.
pub(crate) fn doing(what: &str, mut error: RemoteError) -> RemoteError {
    error.message = format!("{what}: {}", error.message);
    error
}

/// A graph that cannot be written.
pub(crate) fn malformed(error: buildkit_client_llb::Error) -> RemoteError {
    RemoteError::from_error(&error)
}
