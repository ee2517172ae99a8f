use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use parking_lot::Mutex;

use crate::{Domain, OpContext, ResultId, ResultStore};

/// A store of results that keeps clones of them and forgets everything when it is dropped.
#[derive(Debug)]
pub struct MemoryResults<T> {
    results: Mutex<HashMap<ResultId, T>>,
    last: AtomicU64,
}

impl<T> Default for MemoryResults<T> {
    fn default() -> Self {
        Self { results: Mutex::default(), last: AtomicU64::default() }
    }
}

/// A result is not in the store any more.
#[derive(Clone, Debug, thiserror::Error)]
#[error("No result is called {}", .0.0)]
pub struct MissingResult(pub ResultId);

impl Classify for MissingResult {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

#[async_trait]
impl<D: Domain> ResultStore<D> for MemoryResults<D::Output>
where
    D::Error: From<MissingResult>,
{
    async fn save(&self, output: &D::Output, _created_at: SystemTime) -> Result<ResultId, D::Error> {
        let id = ResultId(self.last.fetch_add(1, Ordering::Relaxed).to_string());
        self.results.lock().insert(id.clone(), output.clone());
        Ok(id)
    }

    async fn load(&self, _cx: &OpContext<D>, id: &ResultId) -> Result<D::Output, D::Error> {
        let found = self.results.lock().get(id).cloned();
        found.ok_or_else(|| MissingResult(id.clone()).into())
    }

    fn exists(&self, id: &ResultId) -> bool {
        self.results.lock().contains_key(id)
    }
}
