use std::collections::BTreeMap;

use buildkit_client_llb_sourceresolver::MetaResponse;
use buildkit_errdefs::{Classify, Kind};
use buildkit_solver_pb::{Definition, SourceOp};
use buildkit_sourcepolicy_pb::Policy;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use bytes::Bytes;

/// A cache to look results up in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheImport {
    /// Kind, such as `registry`.
    pub kind: String,
    /// Its options.
    pub attrs: BTreeMap<String, String>,
}

/// What to solve: a definition, or a frontend with its options. With neither the result is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SolveRequest {
    /// Solve now, not when a ref of the result is used.
    pub evaluate: bool,
    /// A graph. One without operations is an empty tree.
    pub definition: Option<Definition>,
    /// Name of a frontend; empty is none.
    pub frontend: String,
    /// Options of the frontend.
    pub frontend_opt: BTreeMap<String, String>,
    /// Graphs that the frontend may use by name.
    pub frontend_inputs: BTreeMap<String, Definition>,
    /// Caches to use for this solve, beside those of the build.
    pub cache_imports: Vec<CacheImport>,
    /// Rules about the sources of the graph, or of what the frontend solves, which hold beside those of the build and
    /// are asked after them.
    pub source_policies: Vec<Policy>,
}

/// What an image is to whoever builds upon it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// The reference that was found, which is another one than was asked for when a policy says so.
    pub reference: String,
    /// What its name stands for: digest of an index or of a manifest.
    pub digest: Digest,
    /// Its configuration, as it is.
    pub config: Bytes,
}

impl ImageConfig {
    /// What was found of the source that was `wanted`, in whose place another one may have come.
    ///
    /// # Errors
    /// When that is no image.
    pub fn of_source(
        wanted: String,
        source: &SourceOp,
        found: MetaResponse,
    ) -> Result<Self, ImageConfigError> {
        let Some(image) = found.image else {
            return Err(ImageConfigError::NotAnImage { wanted, updated: source.identifier.clone() });
        };
        let reference = source.identifier.split_once("://").map_or("", |(_, reference)| reference);
        Ok(Self {
            reference: reference.to_owned(),
            digest: image.digest,
            config: image.config.unwrap_or_default(),
        })
    }
}

/// Why there is no configuration of an image.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ImageConfigError {
    /// Something that is no image takes its place, by a source policy. It may be built upon as whatever it is.
    #[error("ref mutated by policy to non-image: {wanted} -> {updated}")]
    NotAnImage {
        /// The source that was asked about.
        wanted: String,
        /// Identifier of the source that takes its place.
        updated: String,
    },
    /// It is not known.
    #[error(transparent)]
    Failed(#[from] RemoteError),
}

impl Classify for ImageConfigError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotAnImage { .. } => Kind::Unknown,
            Self::Failed(error) => error.kind,
        }
    }
}

impl From<ImageConfigError> for RemoteError {
    fn from(error: ImageConfigError) -> Self {
        match error {
            ImageConfigError::Failed(error) => error,
            other => Self::from_error(&other),
        }
    }
}
