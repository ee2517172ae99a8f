use std::io;
use std::path::PathBuf;

use buildkit_errdefs::{Classify, Kind};

/// Why an index was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process changes it, for too long.
    #[error("could not lock {}: another process has it", .0.display())]
    Locked(PathBuf),
    /// The file system refused.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The index is none.
    #[error("could not unmarshal {}: {reason}", path.display())]
    Invalid {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Locked(_) => Kind::Unavailable,
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Invalid { .. } => Kind::FailedPrecondition,
        }
    }
}
