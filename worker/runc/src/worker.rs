use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buildkit_cache::CacheManager;
use buildkit_cache_metadata::MetadataStore;
use buildkit_exporter::ExporterRegistry;
use buildkit_solver_llbsolver_ops::OpServices;
use buildkit_util_appcontext as tasks;
use buildkit_util_network::Networks;
use buildkit_worker::{Worker, WorkerInfo};

/// How long containers that were ended may take to go.
const CONTAINERS: Duration = Duration::from_secs(5);

/// How long their networks may take to be taken down.
const NETWORKS: Duration = Duration::from_secs(10);

/// The OCI worker of a daemon.
pub struct RuncWorker {
    pub(crate) info: WorkerInfo,
    pub(crate) services: Arc<OpServices>,
    pub(crate) exporters: ExporterRegistry,
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) networks: Networks,
}

impl RuncWorker {
    /// What operations work with.
    pub fn services(&self) -> &Arc<OpServices> {
        &self.services
    }

    /// Where records of the cache are, and cache keys may be.
    pub fn metadata(&self) -> &Arc<dyn MetadataStore> {
        &self.metadata
    }
}

#[async_trait]
impl Worker for RuncWorker {
    fn info(&self) -> &WorkerInfo {
        &self.info
    }

    fn cache(&self) -> &CacheManager {
        &self.services.cache
    }

    fn exporters(&self) -> &ExporterRegistry {
        &self.exporters
    }

    async fn close(&self) {
        // Builds are over sooner than what is left of their containers.
        if tokio::time::timeout(CONTAINERS, self.services.executor.drain()).await.is_err() {
            tracing::warn!("containers are left behind; the next start removes them");
        }
        let networks = tokio::time::timeout(NETWORKS, self.networks.close());
        let (networks, ()) = tokio::join!(networks, self.services.cache.close());
        if networks.is_err() {
            tracing::warn!("networks of containers are left behind; the next start removes them");
        }
        let metadata = self.metadata.clone();
        let flushed = tasks::spawn_blocking(move || metadata.flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "metadata was not written, some of the cache may be lost");
        }
    }
}
