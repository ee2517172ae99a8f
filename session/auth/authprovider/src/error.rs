use std::io;
use std::path::PathBuf;

use buildkit_errdefs::{Classify, Kind};
use buildkit_session_auth::ProviderError;

/// Why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be read.
    #[error("loading config file: {source}")]
    Load {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The configuration is not what it must be.
    #[error("parsing config file ({path}): {message}")]
    Parse {
        /// The file, or the variable.
        path: PathBuf,
        /// What is wrong, without what is in it.
        message: String,
    },
    /// A program that keeps credentials failed; the form is docker's, which people search for.
    #[error("error getting credentials - err: {message}, out: `{output}`")]
    Helper {
        /// How it ended.
        message: String,
        /// What it said.
        output: String,
    },
    /// A program that keeps credentials said what is no answer.
    #[error("Failed to read the answer of `{program}`: {source}")]
    Answer {
        /// The program.
        program: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file with the seeds of tokens cannot be used.
    #[error("Failed to use the seeds in `{path}`: {source}")]
    Seeds {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nothing here speaks to registries.
    #[error("Fetching a token from registry `{0}` is not implemented by this client")]
    NoFetcher(String),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Load { source, .. } | Self::Seeds { source, .. } => Kind::of_io(source),
            Self::Parse { .. } => Kind::InvalidArgument,
            Self::Helper { .. } | Self::Answer { .. } => Kind::Unknown,
            Self::NoFetcher(_) => Kind::Unimplemented,
        }
    }
}

impl From<Error> for ProviderError {
    fn from(error: Error) -> Self {
        Self::Store { kind: error.kind(), source: Box::new(error) }
    }
}
