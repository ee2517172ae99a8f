use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_cache_remotecache::{CacheExporter, CacheImporter};
use buildkit_errdefs::Kind;
use buildkit_exporter::CompatibilityVersion;
use buildkit_frontend::{BridgeError, BridgeInfo, FrontendRegistry, WorkerInfo};
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_solver::{JobId, Solver};
use buildkit_solver_llbsolver_ops::{EarlyLayers, JobContext, LlbDomain};
use buildkit_solver_pb as pb;
use buildkit_sourcepolicy_pb::Policy;
use buildkit_util_apicaps::CapSet;
use buildkit_util_entitlements::Entitlements;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::{Bus, Subscription};
use parking_lot::Mutex;

use crate::build::BuildCore;
use crate::builds::BuildProgress;
use crate::error::to_bridge_error;
use crate::exporting::CacheExportPlan;
use crate::importing::BuildImports;
use crate::inline::ResultKeys;
use crate::nested::Nested;
use crate::policy::BuildPolicy;
use crate::{Build, Imports};

/// Who frontends of the daemon run for.
const PRODUCT: &str = "buildkit";

/// What the solver of a daemon is made of.
pub struct LlbSolverOptions {
    /// Schedules and caches.
    pub solver: Solver<LlbDomain>,
    /// Where results of caches are found that builds import.
    pub imports: Imports,
    /// Kinds of caches that builds may import.
    pub importers: Vec<Arc<dyn CacheImporter>>,
    /// Kinds of caches that builds may write.
    pub cache_exporters: Vec<Arc<dyn CacheExporter>>,
    /// Sessions of clients.
    pub sessions: SessionManager,
    /// Frontends that requests may name.
    pub frontends: FrontendRegistry,
    /// Who builds, the default one first.
    pub workers: Vec<WorkerInfo>,
    /// Platform of ops that name none.
    pub default_platform: pb::Platform,
    /// What ops may ask for.
    pub llb_caps: CapSet,
    /// What frontends may ask of the bridge.
    pub frontend_caps: CapSet,
    /// Privileges that builds of this daemon may ask for.
    pub entitlements: Entitlements,
}

/// What a client says of its build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Id of the build; unique among those that run.
    pub id: String,
    /// Session that serves sources and exports.
    pub session_id: String,
    /// Privileges that the client grants.
    pub entitlements: Vec<String>,
    /// Platforms that the client asks for; none means the default one. The result is held against
    /// them, and what does not fit is a warning.
    pub platforms: Vec<String>,
    /// Whose defaults the build has.
    pub compatibility: CompatibilityVersion,
    /// Whether images that are exported say what they can be cache for.
    pub inline_cache: bool,
    /// Caches that are written when the build is done: kinds and options.
    pub cache_exports: Vec<(String, BTreeMap<String, String>)>,
    /// Rules about its sources.
    pub source_policy: Option<Policy>,
    /// Session that decides about its sources, after the rules; empty for none.
    pub source_policy_session: String,
}

/// Runs builds. Clones are the same solver.
#[derive(Clone)]
pub struct LlbSolver {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) options: LlbSolverOptions,
    pub(crate) progress: BuildProgress,
}

impl LlbSolver {
    /// A solver.
    pub fn new(options: LlbSolverOptions) -> Self {
        Self { shared: Arc::new(Shared { options, progress: BuildProgress::default() }) }
    }

    /// Starts a build.
    ///
    /// # Errors
    /// When the id is missing or in use, the client asks for privileges that it cannot have, or its source policy makes
    /// no sense.
    pub fn begin(&self, build: BuildOptions) -> Result<Build, BridgeError> {
        if build.id.is_empty() {
            return Err(RemoteError::new(Kind::InvalidArgument, "Build has no ref").into());
        }
        let options = &self.shared.options;
        let entitlements = Entitlements::granted(&build.entitlements, &options.entitlements)
            .map_err(|error| RemoteError::from_error(&error).of_build())?;
        let policy = BuildPolicy::new(build.source_policy.as_ref(), build.source_policy_session)?;
        let cache_exports = build.cache_exports.iter();
        let cache_exports = cache_exports
            .map(|(kind, attrs)| CacheExportPlan::new(&options.cache_exporters, kind, attrs))
            .collect::<Result<Vec<_>, _>>()?;
        let nested = Arc::new(Nested::default());
        let layers = Arc::new(EarlyLayers::default());
        let imports = BuildImports::default();
        let context = JobContext {
            sessions: SessionGroup::new([build.session_id.clone()]),
            nested: Some(nested.clone()),
            layers: Some(layers.clone()),
            imports: imports.open().clone(),
        };
        let bus = Bus::new();
        let job = options
            .solver
            .new_job(JobId(build.id.clone()), Arc::new(context), bus.clone())
            .map_err(|error| to_bridge_error(&error, None))?;
        self.shared.progress.start(&build.id, bus);
        let is_cache = build.inline_cache || !cache_exports.is_empty();
        let keys = is_cache.then(|| ResultKeys::new(imports.open().clone()));
        let core = Arc::new(BuildCore {
            solver: self.clone(),
            job,
            info: BridgeInfo {
                session_id: build.session_id,
                workers: options.workers.clone(),
                product: PRODUCT.to_owned(),
                llb_caps: options.llb_caps.clone(),
                frontend_caps: options.frontend_caps.clone(),
            },
            layers,
            entitlements,
            policy,
            platforms: build.platforms,
            compatibility: build.compatibility,
            imports,
            keys,
            inline_cache: build.inline_cache,
            cache_exports,
            warnings: Mutex::default(),
        });
        nested.attach(&core);
        Ok(Build::new(core))
    }

    /// Forgets the cache keys whose results were deleted; how many results that were.
    ///
    /// # Errors
    /// When the store of keys fails. What it still has is found missing when a build looks it up.
    pub async fn release_lost_keys(&self) -> Result<usize, BridgeError> {
        let released = self.shared.options.solver.release_lost().await;
        released.map_err(|error| to_bridge_error(&error, None))
    }

    /// Reads the progress of a build that runs, or that ended not long ago, from its beginning.
    pub fn known_status(&self, id: &str) -> Option<Subscription> {
        self.shared.progress.find(id)
    }

    /// Forgets the progress of a build that ended: it is kept elsewhere.
    pub fn forget_status(&self, id: &str) {
        self.shared.progress.forget(id);
    }

    /// Reads the progress of a build from its beginning; waits a little for one that has not started.
    ///
    /// # Errors
    /// When there is no such build.
    pub async fn status(&self, id: &str) -> Result<Subscription, RemoteError> {
        self.shared.progress.subscribe(id).await
    }
}
