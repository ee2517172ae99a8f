use std::sync::Arc;

use async_trait::async_trait;
use buildkit_client_llb::State;
use buildkit_client_llb_sourceresolver::MetaRequest;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_ocispec::{DockerImage, Platform};
use bytes::Bytes;

/// What a conversion asks of the build that it is part of.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Whether the daemon can do something, by the name of the capability.
    fn supports(&self, cap: &str) -> bool;

    /// Whether the steps of a stage run even if their results are known. A stage without a name has an empty one.
    fn ignores_cache(&self, stage: &str) -> bool;

    /// What the user gave in place of an image, or of a stage.
    ///
    /// # Errors
    /// When the name cannot be one of an image.
    fn named_context(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Option<Arc<dyn NamedContext>>, RemoteError>;

    /// The build context, with these of its paths and what links in them lead to; all of it if there are none.
    async fn main_context(&self, follow: &[String]) -> Result<State, RemoteError>;

    /// The patterns of what is hidden of the build context.
    async fn ignore_patterns(&self) -> Result<Vec<String>, RemoteError>;

    /// What is known of an image, which is not fetched.
    async fn image_config(&self, name: &str, request: MetaRequest) -> Result<FoundImage, RemoteError>;

    /// When the only source that a tree has was made, in seconds since 1970; `None` if it has several, or nobody
    /// knows. `title` is how the step is called in which that is looked up.
    async fn source_date(&self, state: &State, title: &str) -> Result<Option<i64>, RemoteError>;
}

/// Something that the user gave under a name.
#[async_trait]
pub trait NamedContext: Send + Sync {
    /// Looks at it.
    async fn load(&self) -> Result<LoadedContext, RemoteError>;
}

/// A named context.
pub struct LoadedContext {
    /// Its tree.
    pub state: State,
    /// Its configuration, if it is an image.
    pub image: Option<DockerImage>,
    /// To be told which paths of the tree are used, when that is known; no path means all of them. Only then is the
    /// tree decided.
    pub set_used: Option<Box<dyn FnOnce(Vec<String>) + Send + Sync>>,
}

/// What an image is to who builds upon it.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// The reference that was found, which is another one than was asked for when a policy says so.
    pub reference: String,
    /// What it stands for: digest of an index or of a manifest.
    pub digest: Digest,
    /// Its configuration, as it is.
    pub config: Bytes,
}
