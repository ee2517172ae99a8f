//! Garbage collection in the background.

use std::sync::Arc;
use std::time::Duration;

use buildkit_util_appcontext::{self as tasks, TaskGuard};
use buildkit_worker::WorkerController;
use tokio::sync::Notify;

/// Time between the end of a build and the collection that it causes.
const DELAY: Duration = Duration::from_secs(1);

/// Least time between two collections.
const INTERVAL: Duration = Duration::from_secs(60);

/// Collects at the start and after builds, at most once a minute, by the rules of each worker.
pub struct GarbageCollector {
    wake: Arc<Notify>,
    _task: TaskGuard<()>,
}

impl GarbageCollector {
    /// Starts the collector; it ends when dropped.
    pub fn start(workers: WorkerController) -> Self {
        let wake = Arc::new(Notify::new());
        wake.notify_one();
        let woken = wake.clone();
        let task = tasks::spawn(async move {
            loop {
                woken.notified().await;
                tokio::time::sleep(DELAY).await;
                collect(&workers).await;
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Self { wake, _task: task }
    }

    /// Asks for a collection soon.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

async fn collect(workers: &WorkerController) {
    for worker in workers.workers() {
        let policies = &worker.info().gc_policy;
        if policies.is_empty() {
            continue;
        }
        let (mut count, mut size) = (0_usize, 0_i64);
        let freed = |record: buildkit_cache::UsageRecord| {
            count += 1;
            size += record.size;
        };
        if let Err(error) = worker.cache().prune(policies, freed).await {
            tracing::error!(%error, worker = worker.info().id, "garbage collection failed");
        }
        if count > 0 {
            tracing::debug!(records = count, bytes = size, "garbage collected");
        }
    }
}
