use std::io;
use std::path::{Path, PathBuf};

use buildkit_errdefs::{Classify, Kind};

/// Why a file operation failed. Texts are upstream's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("{op} {}: {}", path.display(), go_text(cause))]
    Path {
        /// Name of the system call or of what was attempted.
        op: &'static str,
        /// Path in the tree.
        path: PathBuf,
        /// Why; part of the text.
        cause: io::Error,
    },
    /// The action makes no sense in this tree.
    #[error("{0}")]
    Invalid(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The directory that a copy goes to does not exist.
    #[error("failed to stat {dest}: {cause}")]
    Destination {
        /// As it was asked for.
        dest: String,
        /// Why; part of the text.
        cause: Box<Error>,
    },
    /// A user or group could not be looked up.
    #[error(transparent)]
    User(#[from] buildkit_util_system::UserError),
    /// A copy failed.
    #[error(transparent)]
    Copy(buildkit_util_fsutil_copy::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn at(
        op: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(buildkit_util_system::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |error| match error {
            buildkit_util_system::Error::Io { source, .. } => Self::Path { op, path, cause: source },
            other => Self::Invalid(other.to_string()),
        }
    }

    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |cause| Self::Path { op, path, cause }
    }
}

impl From<buildkit_util_fsutil_copy::Error> for Error {
    fn from(error: buildkit_util_fsutil_copy::Error) -> Self {
        use buildkit_util_fsutil_copy::Error as Copy;
        use buildkit_util_system::Error as System;
        match error {
            Copy::Io { action, path, source } => Self::Path { op: action, path, cause: source },
            Copy::Path(System::Io { action, path, source }) => {
                let op = match action {
                    "find" => "lstat",
                    "create the directory" => "mkdir",
                    other => other,
                };
                Self::Path { op, path, cause: source }
            }
            other => Self::Copy(other),
        }
    }
}

/// The system's words as Go has them.
fn go_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Path { cause, .. } => Kind::of_io(cause),
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::NotFound(_) => Kind::NotFound,
            Self::Destination { cause, .. } => cause.kind(),
            Self::User(error) => error.kind(),
            Self::Copy(error) => error.kind(),
        }
    }
}
