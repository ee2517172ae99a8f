use std::path::PathBuf;

use buildkit_errdefs::{Classify, Kind};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is malformed or of an unknown kind.
    #[error("Invalid address `{address}`: {reason}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("failed to dial \"{address}\" . make sure buildkitd is running: {source}")]
    Connect {
        /// The address.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program that should connect does not start.
    #[error("Failed to run `{program}`: {source}")]
    Program {
        /// The program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("Failed to load `{path}`: {reason}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The settings of TLS contradict each other.
    #[error("{0}")]
    Tls(String),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Address { .. } | Self::Credentials { .. } | Self::Tls(_) => Kind::InvalidArgument,
            Self::Connect { .. } => Kind::Unavailable,
            Self::Program { source, .. } => Kind::of_io(source),
        }
    }
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
