use buildkit_errdefs::{Classify, Kind};
use buildkit_util_ocispec::DocumentError;

/// Why an image was not pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name has a tag or a digest, and none is to be given.
    #[error("can't push tagged ref {0} by digest")]
    Tagged(String),
    /// The registry did not take a part.
    #[error("failed to push {name}: {source}")]
    Registry {
        /// The image.
        name: String,
        /// What it said.
        source: buildkit_util_resolver::Error,
    },
    /// A manifest cannot be read.
    #[error("failed to push {name}: {source}")]
    Read {
        /// The image.
        name: String,
        /// Why not.
        source: buildkit_util_contentutil::Error,
    },
    /// A manifest is not what it must be.
    #[error("failed to push {name}: {source}")]
    Document {
        /// The image.
        name: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// The image has more parts than anybody pushes.
    #[error("failed to push {name}: it has more than {limit} {what}")]
    TooMany {
        /// The image.
        name: String,
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
            Self::Registry { source, .. } => source.kind(),
            Self::Read { source, .. } => source.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::TooMany { .. } => Kind::ResourceExhausted,
        }
    }
}
