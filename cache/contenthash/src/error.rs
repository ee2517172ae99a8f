use std::path::PathBuf;

use buildkit_errdefs::{Classify, Kind};

/// Why a checksum could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is at the path, which is quoted as Go quotes.
    #[error("{0}: not found")]
    NotFound(String),
    /// Symbolic links lead in a circle, or too far.
    #[error("too many links")]
    TooManyLinks,
    /// A pattern makes no sense.
    #[error("{0}")]
    Pattern(String),
    /// The digest is not known, and there are no files to make it from.
    #[error("Content of the tree is not known and its files are not available")]
    NeedsFiles,
    /// A file of no known type.
    #[error("failed to checksum file {path}: archive/tar: unknown file mode {mode:#o}")]
    Mode {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// A file could not be looked at or read.
    #[error("{action} {}: {}", path.display(), reason(cause))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Path in the tree.
        path: PathBuf,
        /// Why it failed; part of the text.
        cause: buildkit_util_system::Error,
    },
    /// A path in an empty tree.
    #[error("{0}: no such file or directory")]
    Empty(String),
    /// The ref could not be mounted.
    #[error(transparent)]
    Cache(#[from] buildkit_cache::Error),
    /// Hashing did not come to its end.
    #[error("Failed to hash files: {0}")]
    Interrupted(String),
    /// Stored records are damaged.
    #[error("Stored content digests are damaged")]
    Damaged,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The system's words, as Go has them, without the number.
fn reason(error: &buildkit_util_system::Error) -> String {
    match error {
        buildkit_util_system::Error::Io { source, .. } => {
            let text = source.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            let mut chars = text.chars();
            chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
        }
        other => other.to_string(),
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) | Self::Empty(_) => Kind::NotFound,
            Self::Cache(error) => error.kind(),
            Self::Interrupted(_) => Kind::Internal,
            Self::TooManyLinks | Self::Pattern(_) | Self::Mode { .. } => Kind::InvalidArgument,
            Self::NeedsFiles => Kind::FailedPrecondition,
            Self::Io { cause, .. } => cause.kind(),
            Self::Damaged => Kind::DataLoss,
        }
    }
}
