use std::sync::Arc;

use buildkit_errdefs::{Classify, Kind};

use crate::Worker;

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None was started.
    #[error("no worker found")]
    NoWorker,
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

/// The workers of a daemon. Builds use the first.
#[derive(Clone, Default)]
pub struct WorkerController {
    workers: Vec<Arc<dyn Worker>>,
}

impl WorkerController {
    /// A controller of these workers, the default one first.
    pub fn new(workers: Vec<Arc<dyn Worker>>) -> Self {
        Self { workers }
    }

    /// The worker that builds use.
    ///
    /// # Errors
    /// When there is none.
    pub fn default_worker(&self) -> Result<&Arc<dyn Worker>, Error> {
        self.workers.first().ok_or(Error::NoWorker)
    }

    /// All workers.
    pub fn workers(&self) -> &[Arc<dyn Worker>] {
        &self.workers
    }
}
