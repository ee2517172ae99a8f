use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_solver::{CacheMapStep, Op, OpContext};
use buildkit_solver_pb::Definition;
use buildkit_util_appcontext as tasks;
use buildkit_util_system::Root;
use prost::Message as _;

use super::definition_map;
use crate::domain::{LlbDomain, OpServices, Tree, failed};
use crate::spec::{OpSpec, TypedVertex};
use crate::{Error, Result};

/// Most bytes of a definition in a file.
const MAX_DEFINITION: u64 = 16 << 20;

/// Builds the definition that a file of its input holds.
pub(super) struct BuildOp {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
}

impl BuildOp {
    pub(super) fn new(services: Arc<OpServices>, vertex: Arc<TypedVertex>) -> Self {
        Self { services, vertex }
    }

    async fn definition(&self, inputs: &[Tree]) -> Result<Definition> {
        let OpSpec::Build(spec) = &self.vertex.op else {
            return Err(failed(Kind::Internal, "Vertex is not a build"));
        };
        let name = spec.filename.clone();
        let Some(Some(tree)) = inputs.get(spec.definition) else {
            return Err(failed(Kind::NotFound, format!("failed to open {name}: no such file or directory")));
        };
        let mount = tree.mount_local().await.map_err(|error| failed(error.kind(), error.to_string()))?;
        let read = tasks::spawn_blocking(move || {
            let bytes = Root::open(mount.path())?.read_file(&name, MAX_DEFINITION);
            drop(mount);
            bytes
        });
        let bytes = read
            .await
            .map_err(|error| failed(Kind::Internal, error.to_string()))?
            .map_err(|error| failed(error.kind(), error.to_string()))?;
        Definition::decode(&bytes[..]).map_err(|error| {
            failed(Kind::InvalidArgument, format!("failed to parse llb definition: {error}"))
        })
    }
}

#[async_trait]
impl Op<LlbDomain> for BuildOp {
    async fn cache_map(&self, _cx: &OpContext<LlbDomain>, _index: usize) -> Result<CacheMapStep<LlbDomain>> {
        definition_map(&self.services, &self.vertex)
    }

    async fn exec(&self, cx: &OpContext<LlbDomain>, inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        let definition = self.definition(&inputs).await?;
        // Any of the builds that want the result may build it: the result is the same.
        let nested = cx.jobs().into_iter().find_map(|job| job.nested.clone()).ok_or(Error::Cancelled)?;
        let tree = nested.solve(definition, self.vertex.depth + 1).await.map_err(Error::Failed)?;
        Ok(vec![tree])
    }
}
