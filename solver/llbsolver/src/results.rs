//! Results of builds, as the solver keeps them.

use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_cache::{CacheManager, RefId};
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_frontend::BridgeError;
use buildkit_solver::{OpContext, ResultId, ResultStore};
use buildkit_solver_llbsolver_ops::{Error, LlbDomain, Tree};
use buildkit_util_grpcerrors::RemoteError;

use crate::Imports;

/// Id of an empty tree, which no record stands for.
pub(crate) const SCRATCH: &str = "scratch";

/// Keeps results as records of a cache: the id of a result is the id of its ref.
pub struct CacheResults {
    cache: CacheManager,
    imports: Imports,
}

impl CacheResults {
    /// Results in this cache, and in those that builds import.
    pub fn new(cache: CacheManager, imports: Imports) -> Self {
        Self { cache, imports }
    }
}

#[async_trait]
impl ResultStore<LlbDomain> for CacheResults {
    async fn save(&self, output: &Tree, created_at: SystemTime) -> Result<ResultId, Error> {
        let Some(tree) = output else { return Ok(ResultId(SCRATCH.to_owned())) };
        let metadata = tree.metadata();
        if metadata.created_at().is_none() {
            metadata
                .set_created_at(created_at)
                .map_err(|error| Error::Failed(BridgeError::from(RemoteError::from_error(&error))))?;
        }
        Ok(ResultId(tree.id().as_str().to_owned()))
    }

    async fn load(&self, _cx: &OpContext<LlbDomain>, id: &ResultId) -> Result<Tree, Error> {
        if id.0 == SCRATCH {
            return Ok(None);
        }
        if Imports::is_imported(id) {
            return match self.imports.load(&self.cache, id) {
                Ok(Some(tree)) => Ok(Some(tree)),
                Ok(None) => {
                    let text = format!("result `{}` is in no cache that is imported now", id.0);
                    Err(Error::Failed(BridgeError::from(RemoteError::new(Kind::NotFound, text))))
                }
                Err(error) => Err(Error::Failed(BridgeError::from(RemoteError::from_error(&error)))),
            };
        }
        let found = self.cache.get(&RefId::new(&id.0)).await;
        if found.as_ref().is_ok_and(|tree| !tree.is_available()) {
            // A layer that was never fetched, and nobody is there who could: whoever named it will.
            let text = format!("layers of cache record `{}` are not here and nobody offers them", id.0);
            return Err(Error::Failed(BridgeError::from(RemoteError::new(Kind::NotFound, text))));
        }
        found.map(Some).map_err(|error| {
            let kind = match error.kind() {
                Kind::NotFound => Kind::NotFound,
                _ => Kind::DataLoss,
            };
            Error::Failed(BridgeError::from(RemoteError::new(kind, error.to_string())))
        })
    }

    fn exists(&self, id: &ResultId) -> bool {
        if Imports::is_imported(id) {
            return self.imports.has(id);
        }
        id.0 == SCRATCH || self.cache.exists(&RefId::new(&id.0))
    }
}
