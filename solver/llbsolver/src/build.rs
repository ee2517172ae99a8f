use std::sync::Arc;
use std::time::Duration;

use buildkit_errdefs::Kind;
use buildkit_exporter::{CompatibilityVersion, ExportResult, ExporterInstance};
use buildkit_frontend::{BridgeError, BridgeInfo, FrontendResult, LlbBridge};
use buildkit_solver::Job;
use buildkit_solver_llbsolver_ops::{EarlyLayers, LlbDomain};
use buildkit_solver_result::{BuildResult, Refs};
use buildkit_util_appcontext as tasks;
use buildkit_util_cachedigest::Digest;
use buildkit_util_entitlements::Entitlements;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::Subscription;
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::LlbSolver;
use crate::bridge::Bridge;
use crate::export::{Delivered, ExportPlan, run_exporters};
use crate::exporting::{CacheExportPlan, write_caches};
use crate::importing::BuildImports;
use crate::inline::ResultKeys;
use crate::policy::BuildPolicy;
use crate::step::Step;
use crate::verify::check_platforms;
use crate::warnings::Warnings;

/// How long the progress of a cancelled build stays open for its steps to end.
const SETTLE: Duration = Duration::from_secs(3);

/// A build that runs. Dropping it cancels what no other build wants and ends its progress.
pub struct Build {
    core: Arc<BuildCore>,
    bridge: Arc<Bridge>,
    cancelled: CancellationToken,
}

/// What the bridge and the refs that it handed out need of a build.
pub(crate) struct BuildCore {
    pub(crate) solver: LlbSolver,
    pub(crate) job: Job<LlbDomain>,
    /// What its frontends may know.
    pub(crate) info: BridgeInfo,
    /// Layers of results that are exported.
    pub(crate) layers: Arc<EarlyLayers>,
    /// What its steps may do.
    pub(crate) entitlements: Entitlements,
    /// What its sources may be.
    pub(crate) policy: BuildPolicy,
    /// Platforms that its result is to be for.
    pub(crate) platforms: Vec<String>,
    /// Whose defaults exporters have.
    pub(crate) compatibility: CompatibilityVersion,
    /// Caches that it looks into.
    pub(crate) imports: BuildImports,
    /// Whether images that are exported say what they can be cache for.
    pub(crate) inline_cache: bool,
    /// Keys of results, if somebody asks for what can be cache for them.
    pub(crate) keys: Option<ResultKeys>,
    /// Caches that are written.
    pub(crate) cache_exports: Vec<CacheExportPlan>,
    /// What its frontends have warned of.
    pub(crate) warnings: Mutex<Warnings>,
}

impl Build {
    pub(crate) fn new(core: Arc<BuildCore>) -> Self {
        let cancelled = CancellationToken::new();
        let rules = core.policy.rules.clone();
        let bridge = Arc::new(Bridge::new(core.clone(), rules, cancelled.clone()));
        Self { core, bridge, cancelled }
    }

    /// What the driver of the build solves through.
    pub fn bridge(&self) -> Arc<dyn LlbBridge> {
        self.bridge.clone()
    }

    /// Its progress from the beginning. It ends soon after the build is dropped.
    pub fn progress(&self) -> Subscription {
        self.core.job.progress().subscribe()
    }

    /// Makes the trees of a result and delivers them; gives back what the exporters say.
    ///
    /// # Errors
    /// When a tree cannot be made, or an exporter fails.
    pub async fn finish(
        &self,
        result: FrontendResult,
        exporters: Vec<Arc<dyn ExporterInstance>>,
    ) -> Result<Delivered, BridgeError> {
        let layers = exporters.iter().find_map(|exporter| exporter.layers());
        if let Some(options) = &layers {
            self.core.layers.enable(options.clone());
        }
        let mut result = evaluate(&result).await?;
        let plan = ExportPlan {
            sessions: self.core.solver.shared.options.sessions.clone(),
            session_id: self.core.info.session_id.clone(),
            progress: self.core.job.progress().clone(),
            cancelled: self.cancelled.clone(),
            compatibility: self.core.compatibility,
        };
        let default = &self.core.solver.shared.options.default_platform;
        let warnings = check_platforms(&self.core.platforms, default, &result)
            .map_err(|text| RemoteError::new(Kind::Unknown, text))?;
        if self.core.inline_cache
            && let (Some(keys), Some(options)) = (&self.core.keys, &layers)
        {
            let work = keys.add_inline(&mut result, &self.core.solver.shared.options, options);
            let digest = Digest::sha256(format!("{}-inline-cache", self.core.job.id().0));
            let step =
                Step::new(self.core.job.progress(), digest, "preparing layers for inline cache".to_owned());
            step.run(async {
                tokio::select! {
                    () = work => Ok(()),
                    () = self.cancelled.cancelled() => Err(cancelled()),
                }
            })
            .await?;
        }
        let mut delivered = run_exporters(&plan, exporters, &result, &warnings).await?;
        delivered.response.extend(write_caches(&self.core, &result, &self.cancelled).await?);
        for (key, value) in &result.metadata {
            if key.starts_with("frontend.") {
                delivered.response.insert(key.clone(), String::from_utf8_lossy(value).into_owned());
            }
        }
        Ok(delivered)
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.cancelled.cancel();
        let core = self.core.clone();
        let end = move || core.solver.shared.progress.end(&core.job.id().0);
        let progress = self.core.job.progress().clone();
        if progress.is_settled() {
            end();
            return;
        }
        // A cancelled build: whoever watches is told how its steps ended.
        tasks::detach("end of a cancelled build", async move {
            let _ = tokio::time::timeout(SETTLE, progress.settled()).await;
            end();
        });
    }
}

/// Makes all trees of a result, side by side.
async fn evaluate(result: &FrontendResult) -> Result<ExportResult, BridgeError> {
    let refs = match &result.refs {
        Refs::Single(None) => Refs::Single(None),
        Refs::Single(Some(reference)) => Refs::Single(reference.result().await?),
        Refs::Many(refs) => {
            let trees = refs.iter().map(|(id, reference)| async move {
                let tree = match reference {
                    Some(reference) => reference.result().await?,
                    None => None,
                };
                Ok::<_, BridgeError>((id.clone(), tree))
            });
            Refs::Many(try_join_all(trees).await?.into_iter().collect())
        }
    };
    if !result.attestations.is_empty() {
        tracing::debug!("attestations of the result are left out: exporters do not know them");
    }
    Ok(BuildResult { refs, metadata: result.metadata.clone(), ..BuildResult::default() })
}

/// The error of work that was given up because its build ended.
pub(crate) fn cancelled() -> BridgeError {
    RemoteError::new(Kind::Cancelled, "context canceled").into()
}
