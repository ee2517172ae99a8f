use std::io;
use std::path::{Path, PathBuf};

use buildkit_errdefs::{Classify, Kind};

/// What an archive does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A header is not one, or its checksum is wrong.
    #[error("invalid header")]
    Header,
    /// A number in a header is not one, or is out of bounds.
    #[error("invalid number in a header")]
    Number,
    /// PAX records do not follow the format, or are in a place where readers do not agree on them.
    #[error("invalid PAX records")]
    Pax,
    /// The map of a sparse file is not one.
    #[error("invalid map of a sparse file")]
    Sparse,
    /// A sparse file has much less data than its size.
    #[error("a sparse file is too large for its data")]
    TooSparse,
    /// A path, PAX records or the map of a sparse file are too long.
    #[error("header of an entry is too long")]
    TooLong,
    /// An entry that can have no content has a size.
    #[error("an entry that is no file has content")]
    Content,
    /// The archive ends in the middle of something.
    #[error("archive is truncated")]
    Truncated,
}

/// Why a layer could not be written, read or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused something about a file.
    #[error("Failed to {action} `{}` of a layer: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The path in the tree.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The archive could not be read: what decompresses or carries it failed.
    #[error("Failed to read a layer: {0}")]
    Read(#[source] io::Error),
    /// The archive could not be written.
    #[error("Failed to write a layer: {0}")]
    Write(#[source] io::Error),
    /// The archive is not valid.
    #[error("Failed to read a layer after entry `{}`: {reason}", after.display())]
    Malformed {
        /// What is wrong.
        reason: Malformed,
        /// The last entry that was read, or nothing.
        after: PathBuf,
    },
    /// An entry is valid tar, but not in a layer.
    #[error("Refused entry `{}` of a layer: {reason}", path.display())]
    Refused {
        /// The entry.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// No tar format can express an entry.
    #[error("Failed to write entry `{}` of a layer: {reason}", path.display())]
    Unencodable {
        /// The entry.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// An entry refers to what the layers below have, and those are not known.
    #[error("Failed to apply entry `{}` of a layer: the layers below are needed", .0.display())]
    NeedsLower(PathBuf),
    /// A file changed while it was read.
    #[error("Failed to write `{}` to a layer: the file changed meanwhile", .0.display())]
    Changed(PathBuf),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    pub(crate) fn refused(path: impl AsRef<Path>, reason: &'static str) -> Self {
        Self::Refused { path: path.as_ref().to_owned(), reason }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } | Self::Read(source) | Self::Write(source) => Kind::of_io(source),
            Self::Malformed { .. } | Self::Refused { .. } => Kind::InvalidArgument,
            Self::Unencodable { .. } | Self::NeedsLower(_) => Kind::FailedPrecondition,
            Self::Changed(_) => Kind::Aborted,
        }
    }
}
