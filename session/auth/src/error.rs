use std::fmt;

use buildkit_errdefs::{Classify, Kind};

/// What a client was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A user name and a secret.
    Credentials,
    /// A token.
    Token,
    /// The public key of its tokens.
    Authority,
    /// To prove that it has the key.
    Proof,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Upstream's words.
        f.write_str(match self {
            Self::Credentials => "resolving credentials from session",
            Self::Token => "fetching auth token from session",
            Self::Authority => "getting token authority from session",
            Self::Proof => "verifying token authority from session",
        })
    }
}

/// Why a client's credentials are not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client did not answer in time.
    #[error("{0}: context deadline exceeded")]
    Timeout(Request),
    /// The client answered with an error, or vanished. Its words are the message: they tell of the
    /// user's own credential helper or registry.
    #[error("{}", source.message())]
    Client {
        /// What it was asked.
        request: Request,
        /// The answer.
        #[source]
        source: Box<tonic::Status>,
    },
    /// The public key has not the length of a public key.
    #[error("invalid pubkey length {0}")]
    KeyLength(usize),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Timeout(_) => Kind::DeadlineExceeded,
            Self::Client { source, .. } => Kind::from_code(source.code() as i32),
            Self::KeyLength(_) => Kind::InvalidArgument,
        }
    }
}
