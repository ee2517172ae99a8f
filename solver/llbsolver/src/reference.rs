use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::ImmutableRef;
use buildkit_frontend::{BridgeError, Reference};
use buildkit_solver_pb::Definition;
use buildkit_sourcepolicy::Engine;
use futures::future::join_all;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::build::{BuildCore, cancelled};
use crate::error::to_bridge_error;
use crate::importing::WantedImport;
use crate::load::{LoadedGraph, load};

/// The result of a definition, solved when somebody asks for it.
pub(crate) struct LazyReference {
    core: Arc<BuildCore>,
    definition: Arc<Definition>,
    /// Rules about its sources.
    rules: Engine,
    /// Caches that are looked into.
    imports: Vec<Arc<WantedImport>>,
    /// All who ask share one solve; if the one who runs it leaves, the next takes it over.
    result: OnceCell<Result<Option<ImmutableRef>, BridgeError>>,
    cancelled: CancellationToken,
}

impl LazyReference {
    pub(crate) fn new(
        core: Arc<BuildCore>,
        definition: Definition,
        rules: Engine,
        imports: Vec<Arc<WantedImport>>,
        cancelled: CancellationToken,
    ) -> Self {
        Self { core, definition: Arc::new(definition), rules, imports, result: OnceCell::new(), cancelled }
    }

    async fn solve(&self) -> Result<Option<ImmutableRef>, BridgeError> {
        let LoadedGraph { graph, root, sources } = load(&self.core, &self.definition, 0, &self.rules).await?;
        join_all(self.imports.iter().map(|import| import.open(&self.core))).await;
        let result = self
            .core
            .job
            .build(&graph, root)
            .await
            .map_err(|error| to_bridge_error(&error, Some(&sources)))?;
        if let Some(keys) = &self.core.keys {
            keys.note(&result);
        }
        Ok(result.output)
    }
}

#[async_trait]
impl Reference for LazyReference {
    fn definition(&self) -> Option<Arc<Definition>> {
        Some(self.definition.clone())
    }

    async fn result(&self) -> Result<Option<ImmutableRef>, BridgeError> {
        tokio::select! {
            result = self.result.get_or_init(|| self.solve()) => result.clone(),
            () = self.cancelled.cancelled() => Err(cancelled()),
        }
    }
}
