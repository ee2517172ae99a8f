use std::io;

use buildkit_errdefs::{Classify, Kind};

/// Why a layer could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive is not valid, or cannot be read or written.
    #[error(transparent)]
    Archive(#[from] buildkit_util_archive::Error),
    /// What decompresses failed.
    #[error("Failed to decompress a layer: {0}")]
    Read(#[source] io::Error),
    /// What compresses, or where the layer goes, failed.
    #[error("Failed to compress a layer: {0}")]
    Write(#[source] io::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Archive(error) => error.kind(),
            Self::Read(error) | Self::Write(error) => Kind::of_io(error),
        }
    }
}
