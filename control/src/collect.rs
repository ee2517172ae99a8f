//! Garbage collection in the background.

use std::sync::Arc;
use std::time::Duration;

use buildkit_solver_llbsolver::LlbSolver;
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
    pub fn start(workers: WorkerController, solver: LlbSolver) -> Self {
        let wake = Arc::new(Notify::new());
        wake.notify_one();
        let woken = wake.clone();
        let task = tasks::spawn(async move {
            // At the start too: a daemon that was killed may have keys of results that it had deleted.
            let mut lost_keys = true;
            loop {
                woken.notified().await;
                tokio::time::sleep(DELAY).await;
                lost_keys |= collect(&workers).await > 0;
                if std::mem::take(&mut lost_keys) {
                    release_keys(&solver).await;
                }
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

/// Forgets the cache keys of what was deleted. A failure costs memory only, so it is a warning.
pub(crate) async fn release_keys(solver: &LlbSolver) {
    match solver.release_lost_keys().await {
        Ok(0) => {}
        Ok(results) => tracing::debug!(results, "cache keys of deleted results released"),
        Err(error) => tracing::warn!(%error, "cache keys of deleted results cannot be released"),
    }
}

/// The number of records that were deleted.
async fn collect(workers: &WorkerController) -> usize {
    let mut total = 0;
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
        total += count;
    }
    total
}
