use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_client::{GatewayRef, ReadDir, ReadFile, Stat};
use buildkit_solver_pb::Definition;
use buildkit_util_appcontext as tasks;
use buildkit_util_grpcerrors::RemoteError;
use bytes::Bytes;

use crate::files;
use crate::refs::{Directory, Refs};

/// A ref of a build as its frontend sees it.
pub(crate) struct ForwardedRef {
    pub(crate) id: String,
    pub(crate) definition: Option<Arc<Definition>>,
    pub(crate) refs: Arc<Refs>,
}

impl ForwardedRef {
    /// Works on the directory with the tree, which stays until the work is done.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> Result<T, RemoteError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let directory = self.refs.directory(&self.id).await?;
        tasks::spawn_blocking(move || work(&directory))
            .await
            .unwrap_or_else(|error| Err(RemoteError::new(Kind::Internal, error.to_string())))
    }
}

#[async_trait]
impl GatewayRef for ForwardedRef {
    fn id(&self) -> &str {
        &self.id
    }

    fn definition(&self) -> Option<Arc<Definition>> {
        self.definition.clone()
    }

    async fn evaluate(&self) -> Result<(), RemoteError> {
        self.refs.evaluate(&self.id).await.map(drop)
    }

    async fn read_file(&self, file: ReadFile) -> Result<Bytes, RemoteError> {
        self.look(move |tree| files::read_file(tree.path(), &file.path, file.range)).await
    }

    async fn read_dir(&self, directory: ReadDir) -> Result<Vec<Stat>, RemoteError> {
        self.look(move |tree| files::read_dir(tree.path(), &directory.path, &directory.include_pattern)).await
    }

    async fn stat_file(&self, path: &str) -> Result<Stat, RemoteError> {
        let path = path.to_owned();
        self.look(move |tree| files::stat_file(tree.path(), &path)).await
    }
}
