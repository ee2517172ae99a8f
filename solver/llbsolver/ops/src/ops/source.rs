use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use buildkit_client_llb_sourceresolver::platform_of;
use buildkit_errdefs::Classify as _;
use buildkit_solver::{CacheMap, CacheMapStep, Op, OpContext};
use buildkit_solver_pb::map::to_map;
use buildkit_source::{Identifier, SourceContext, SourceInstance};

use super::acquire;
use crate::domain::{LlbDomain, OpServices, Tree, failed, failed_remotely, sessions, writer};
use crate::keys::source_key;
use crate::spec::{OpSpec, TypedVertex};
use crate::{Error, Result};

/// Gets something from outside.
pub(super) struct SourceOp {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
    /// What the keys were asked of is what gives the content.
    instance: OnceLock<Arc<dyn SourceInstance>>,
}

impl SourceOp {
    pub(super) fn new(services: Arc<OpServices>, vertex: Arc<TypedVertex>) -> Self {
        Self { services, vertex, instance: OnceLock::new() }
    }

    fn instance(&self) -> std::result::Result<Arc<dyn SourceInstance>, buildkit_source::Error> {
        if let Some(instance) = self.instance.get() {
            return Ok(instance.clone());
        }
        let OpSpec::Source(spec) = &self.vertex.op else {
            return Err(buildkit_source::Error::Invalid("Vertex is not a source".to_owned()));
        };
        let instance = self.services.sources.resolve(&Identifier {
            scheme: spec.scheme.clone(),
            reference: spec.reference.clone(),
            attrs: to_map(spec.op.attrs.clone()),
            platform: Some(platform_of(&self.vertex.platform)),
        })?;
        Ok(self.instance.get_or_init(|| instance).clone())
    }

    fn context(&self, cx: &OpContext<LlbDomain>) -> SourceContext {
        SourceContext {
            sessions: self.services.sessions.clone(),
            group: sessions(cx),
            progress: writer(cx),
            cancelled: cx.cancelled().clone(),
        }
    }
}

fn to_error(error: buildkit_source::Error) -> Error {
    match error {
        buildkit_source::Error::Cancelled => Error::Cancelled,
        // What the client says of its own files keeps the code that it gave.
        other => failed_remotely(other.kind(), other.to_string()),
    }
}

/// A key that could not be made.
fn key_error(error: buildkit_source::Error) -> Error {
    match error {
        buildkit_source::Error::Other { .. } | buildkit_source::Error::Cancelled => to_error(error),
        other => failed(other.kind(), format!("failed to load cache key: {other}")),
    }
}

#[async_trait]
impl Op<LlbDomain> for SourceOp {
    async fn cache_map(&self, cx: &OpContext<LlbDomain>, index: usize) -> Result<CacheMapStep<LlbDomain>> {
        let key = self
            .instance()
            .map_err(key_error)?
            .cache_key(&self.context(cx), index)
            .await
            .map_err(key_error)?;
        let map = source_key(&key.key);
        let preimage = Some(map.preimage());
        Ok(CacheMapStep { map: CacheMap { digest: map.digest, deps: Vec::new(), preimage }, done: key.done })
    }

    async fn acquire(&self, _cx: &OpContext<LlbDomain>) -> Result<Box<dyn Send + Sync>> {
        acquire(self.services.parallelism.as_ref()).await
    }

    async fn exec(&self, cx: &OpContext<LlbDomain>, _inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        let tree = self.instance().map_err(to_error)?.snapshot(&self.context(cx)).await.map_err(to_error)?;
        Ok(vec![tree])
    }
}
