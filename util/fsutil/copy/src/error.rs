use std::io;
use std::path::PathBuf;

use buildkit_errdefs::{Classify, Kind};

/// Why a copy failed. What was copied until then stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused an operation.
    #[error("failed to {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Path in its root.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A path could not be used.
    #[error("{}", .0)]
    Path(#[from] buildkit_util_system::Error),
    /// Nothing matches the wildcards.
    #[error("no matches found: {}", .0.display())]
    NoMatch(PathBuf),
    /// A directory is where a file is to be.
    #[error("cannot replace to directory {} with file", .0.display())]
    IsDirectory(PathBuf),
    /// Something else is where a directory is to be.
    #[error("cannot copy to non-directory: {}", .0.display())]
    NotDirectory(PathBuf),
    /// A symbolic mode is malformed.
    #[error("invalid mode string: {0:?}")]
    Mode(String),
    /// Patterns are malformed.
    #[error("invalid {what}: {source}")]
    Patterns {
        /// Which ones.
        what: &'static str,
        /// Why.
        #[source]
        source: buildkit_util_patternmatcher::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    /// Whether something that was named does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Path(error) => error.is_not_found(),
            Self::NoMatch(_) => true,
            _ => false,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Path(error) => error.kind(),
            Self::NoMatch(_) => Kind::NotFound,
            Self::IsDirectory(_) | Self::NotDirectory(_) => Kind::FailedPrecondition,
            Self::Mode(_) | Self::Patterns { .. } => Kind::InvalidArgument,
        }
    }
}
