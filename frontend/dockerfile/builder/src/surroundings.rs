use std::sync::Arc;

use async_trait::async_trait;
use buildkit_client_llb::{Local, State};
use buildkit_frontend_dockerfile_dockerfile2llb::{FoundImage, LoadedContext, NamedContext, Surroundings};
use buildkit_frontend_dockerui::{ContextRequest, DockerUi};
use buildkit_frontend_gateway_client::{MetaRequest, RemoteError};
use buildkit_util_ocispec::Platform;

use crate::dates;
use crate::images::ImageConfigs;

/// The build that a conversion is part of.
pub(crate) struct Build {
    pub(crate) ui: Arc<DockerUi>,
    /// When an image that is there already is looked up again, in the words of requests.
    pub(crate) resolve_mode: String,
    images: ImageConfigs,
}

impl Build {
    pub(crate) fn new(ui: Arc<DockerUi>, resolve_mode: String) -> Self {
        Self { ui, resolve_mode, images: ImageConfigs::default() }
    }
}

#[async_trait]
impl Surroundings for Build {
    fn supports(&self, cap: &str) -> bool {
        self.ui.client().build_opts().llb_caps.supports(cap).is_ok()
    }

    fn ignores_cache(&self, stage: &str) -> bool {
        self.ui.options.no_cache.contains(stage)
    }

    fn named_context(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Option<Arc<dyn NamedContext>>, RemoteError> {
        let request = ContextRequest {
            platform: platform.cloned(),
            resolve_mode: self.resolve_mode.clone(),
            ..ContextRequest::default()
        };
        let given = self.ui.named_context(name, request.clone())?.is_some();
        let context = || Given { ui: self.ui.clone(), name: name.to_owned(), request };
        Ok(given.then(|| Arc::new(context()) as Arc<dyn NamedContext>))
    }

    async fn main_context(&self, follow: &[String]) -> Result<State, RemoteError> {
        self.ui.main_context(|directory| only(directory, follow)).await
    }

    async fn ignore_patterns(&self) -> Result<Vec<String>, RemoteError> {
        self.ui.ignored_patterns().await
    }

    async fn image_config(&self, name: &str, request: MetaRequest) -> Result<FoundImage, RemoteError> {
        let found = self.images.get(&**self.ui.client(), name, request).await?;
        Ok(FoundImage { reference: found.reference, digest: found.digest, config: found.config })
    }

    async fn source_date(&self, state: &State, title: &str) -> Result<Option<i64>, RemoteError> {
        dates::source_date(&**self.ui.client(), state, title).await
    }
}

/// A directory with these of its paths; with all, if there are none.
fn only(directory: Local, follow: &[String]) -> Local {
    if follow.is_empty() { directory } else { directory.follow(follow) }
}

/// Something that the user gave under a name.
struct Given {
    ui: Arc<DockerUi>,
    name: String,
    request: ContextRequest,
}

#[async_trait]
impl NamedContext for Given {
    async fn load(&self) -> Result<LoadedContext, RemoteError> {
        let context = self.ui.named_context(&self.name, self.request.clone())?;
        let context = context.ok_or_else(|| {
            RemoteError::new(buildkit_errdefs::Kind::Internal, format!("no context named {}", self.name))
        })?;
        let tree = context.load().await?;
        let set_used = tree.directory.map(|directory| {
            let decide = move |follow: Vec<String>| directory.decide(|directory| only(directory, &follow));
            Box::new(decide) as Box<dyn FnOnce(Vec<String>) + Send + Sync>
        });
        Ok(LoadedContext { state: tree.state, image: tree.image, set_used })
    }
}
