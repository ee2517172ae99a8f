use std::sync::Arc;

use async_trait::async_trait;
use buildkit_client_llb_sourceresolver::{MetaRequest, MetaResponse};
use buildkit_errdefs::Kind;
use buildkit_frontend::{BridgeError, BridgeInfo, FrontendResult, LlbBridge, Reference, SolveRequest};
use buildkit_solver_pb::SourceOp;
use buildkit_solver_result::BuildResult;
use buildkit_sourcepolicy::Engine;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::{Event, VertexWarning};
use tokio_util::sync::CancellationToken;

use crate::build::{BuildCore, cancelled};
use crate::metadata::resolve_source;
use crate::policy::compile;
use crate::reference::LazyReference;

/// The bridge of one build.
pub(crate) struct Bridge {
    core: Arc<BuildCore>,
    /// Rules about sources: those of the build, and those of who runs the frontend that this is the bridge of.
    rules: Engine,
    /// Fires when the build is over, also for calls that outlive it.
    cancelled: CancellationToken,
}

impl Bridge {
    pub(crate) fn new(core: Arc<BuildCore>, rules: Engine, cancelled: CancellationToken) -> Self {
        Self { core, rules, cancelled }
    }

    async fn solve_now(&self, request: SolveRequest) -> Result<FrontendResult, BridgeError> {
        let rules = self.rules.then(&compile(&request.source_policies)?);
        match (request.definition, request.frontend.as_str()) {
            (Some(_), name) if !name.is_empty() => Err(RemoteError::new(
                Kind::InvalidArgument,
                "cannot solve with both Definition and Frontend specified",
            )
            .into()),
            (Some(definition), _) if definition.def.is_empty() => Ok(BuildResult::default()),
            (Some(definition), _) => {
                let imports = self.core.imports.wanted(request.cache_imports);
                let cancelled = self.cancelled.clone();
                let reference = LazyReference::new(self.core.clone(), definition, rules, imports, cancelled);
                if request.evaluate {
                    reference.result().await?;
                }
                Ok(BuildResult::single(Some(Arc::new(reference) as Arc<dyn Reference>)))
            }
            (None, "") => Ok(BuildResult::default()),
            (None, name) => {
                let frontend = self.core.solver.shared.options.frontends.get(name)?;
                let evaluate = request.evaluate;
                let bridge: Arc<dyn LlbBridge> =
                    Arc::new(Self::new(self.core.clone(), rules, self.cancelled.clone()));
                let request = SolveRequest { definition: None, ..request };
                let result = frontend.solve(bridge, request).await?;
                if evaluate {
                    for reference in result.iter().chain(result.attested()) {
                        reference.result().await?;
                    }
                }
                Ok(result)
            }
        }
    }
}

#[async_trait]
impl LlbBridge for Bridge {
    fn info(&self) -> &BridgeInfo {
        &self.core.info
    }

    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BridgeError> {
        tokio::select! {
            result = self.solve_now(request) => result,
            () = self.cancelled.cancelled() => Err(cancelled()),
        }
    }

    async fn resolve_source(
        &self,
        source: SourceOp,
        request: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), BridgeError> {
        tokio::select! {
            result = resolve_source(&self.core, &self.rules, source, request) => result,
            () = self.cancelled.cancelled() => Err(cancelled()),
        }
    }

    fn warn(&self, mut warning: VertexWarning) -> Result<(), BridgeError> {
        self.core.warnings.lock().add(&mut warning)?;
        self.core.job.progress().publish(Event::Warning(warning));
        Ok(())
    }
}
