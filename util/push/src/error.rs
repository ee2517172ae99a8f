use buildkit_errdefs::{Classify, Kind};
use buildkit_util_ocispec::DocumentError;

/// Why an image was not pushed. Who pushes says which one it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name has a tag or a digest, and none is to be given.
    #[error("can't push tagged ref {0} by digest")]
    Tagged(String),
    /// The registry did not take a part.
    #[error(transparent)]
    Registry(#[from] buildkit_util_resolver::Error),
    /// A manifest to be pushed cannot be read.
    #[error("manifest to be pushed: {0}")]
    Read(#[from] buildkit_util_contentutil::Error),
    /// A manifest to be pushed is not what it must be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The image has more parts than anybody pushes.
    #[error("image to be pushed has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Tagged(_) => Kind::InvalidArgument,
            Self::Registry(source) => source.kind(),
            Self::Read(source) => source.kind(),
            Self::Document(source) => source.kind(),
            Self::TooMany { .. } => Kind::ResourceExhausted,
        }
    }
}
