//! Builds of definitions that build ops find.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use buildkit_frontend::BridgeError;
use buildkit_solver_llbsolver_ops::{NestedBuilds, Tree};
use buildkit_solver_pb::Definition;

use crate::build::{BuildCore, cancelled};
use crate::error::to_bridge_error;
use crate::load::{LoadedGraph, load};

/// Solves nested definitions in the job of the build that they were found in.
#[derive(Default)]
pub(crate) struct Nested {
    /// Weak, since the job holds this.
    build: OnceLock<Weak<BuildCore>>,
}

impl Nested {
    pub(crate) fn attach(&self, build: &Arc<BuildCore>) {
        // Attached once, right after the job was made.
        let _ = self.build.set(Arc::downgrade(build));
    }
}

#[async_trait]
impl NestedBuilds for Nested {
    async fn solve(&self, definition: Definition, depth: u32) -> Result<Tree, BridgeError> {
        let core = self.build.get().and_then(Weak::upgrade).ok_or_else(cancelled)?;
        let LoadedGraph { graph, root, sources } =
            load(&core, &Arc::new(definition), depth, &core.policy.rules).await?;
        let result =
            core.job.build(&graph, root).await.map_err(|error| to_bridge_error(&error, Some(&sources)))?;
        Ok(result.output)
    }
}
