use buildkit_errdefs::{Classify, Kind};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil as contentutil;
use buildkit_util_ocispec::DocumentError;
use buildkit_util_resolver as resolver;

/// Why an image was not found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry said no, or could not be reached.
    #[error(transparent)]
    Registry(#[from] resolver::Error),
    /// A document could not be read or kept.
    #[error(transparent)]
    Content(#[from] contentutil::Error),
    /// A document is not what it should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The image does not run on the platform.
    #[error("no match for platform in manifest {digest}: {wanted} is wanted, it has {found}: not found")]
    NoPlatform {
        /// The index.
        digest: Digest,
        /// What was wanted.
        wanted: String,
        /// What it has.
        found: String,
    },
    /// Lists of images lead on to each other without an end.
    #[error("the indexes of image {0} are nested too deeply")]
    TooDeep(Digest),
    /// Manifest and configuration do not fit.
    #[error(
        "mismatched image rootfs and manifest layers: {layers} layers and {diff_ids} diff IDs in {digest}"
    )]
    Layers {
        /// The manifest.
        digest: Digest,
        /// Layers of the manifest.
        layers: usize,
        /// Those that the configuration has.
        diff_ids: usize,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Document(error) => error.kind(),
            Self::NoPlatform { .. } => Kind::NotFound,
            Self::TooDeep(_) | Self::Layers { .. } => Kind::InvalidArgument,
        }
    }
}
