use buildkit_cache_remotecache_v1::ParseError;
use buildkit_errdefs::{Classify, Kind};
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::DocumentError;

/// Why a cache cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// It cannot be had.
    #[error(transparent)]
    Pull(#[from] buildkit_util_pull::Error),
    /// It cannot be written.
    #[error(transparent)]
    Push(#[from] buildkit_util_push::Error),
    /// The client's store has it not, or refuses it.
    #[error(transparent)]
    Content(#[from] buildkit_util_contentutil::Error),
    /// A manifest or an index makes no sense.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// What it says makes no sense.
    #[error("{digest}: {source}")]
    Records {
        /// The document.
        digest: Digest,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The image is no image, or has more parts than one should have.
    #[error("Cannot read the cache of image {digest}: {reason}")]
    Image {
        /// The document.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Pull(error) => error.kind(),
            Self::Push(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Document(error) => error.kind(),
            Self::Option(_) | Self::Records { .. } | Self::Image { .. } => Kind::InvalidArgument,
        }
    }
}
