use std::io;
use std::path::{Path, PathBuf};

use buildkit_errdefs::{Classify, Kind};

/// Why an access to a path failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("Failed to {action} `{}`", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The path as the caller named it, inside its root.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The path is not a regular file.
    #[error("`{}` is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// The file is larger than the caller is ready to read.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The caller's limit in bytes.
        limit: u64,
    },
}

impl Error {
    /// An error of the system for `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// What kind of I/O error this is.
    pub fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::NotRegular(_) => io::ErrorKind::InvalidInput,
            Self::TooLarge { .. } => io::ErrorKind::FileTooLarge,
        }
    }

    /// The error number of the system.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the path, or a directory on the way to it, does not exist.
    pub fn is_not_found(&self) -> bool {
        self.io_kind() == io::ErrorKind::NotFound
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::NotRegular(_) => Kind::InvalidArgument,
            Self::TooLarge { .. } => Kind::ResourceExhausted,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.io_kind(), error)
    }
}
