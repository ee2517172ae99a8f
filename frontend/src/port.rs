use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::ImmutableRef;
use buildkit_client_llb_sourceresolver::{MetaRequest, MetaResponse};
use buildkit_errdefs::{Classify, Kind};
use buildkit_frontend_gateway_client::{SolveRequest, WorkerInfo};
use buildkit_solver_errdefs::Subject;
use buildkit_solver_pb::{Definition, SourceOp};
use buildkit_solver_result::BuildResult;
use buildkit_util_apicaps::CapSet;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::VertexWarning;

/// State of a step that failed, for those who want to look into it.
#[derive(Clone, Default)]
pub struct FailedState {
    /// Refs of its inputs; `None` is scratch.
    pub inputs: Vec<Option<ImmutableRef>>,
    /// Its mounts as they were when it failed.
    pub mounts: Vec<Option<ImmutableRef>>,
    /// The op in protobuf's JSON.
    pub op_json: Option<String>,
    /// Which part of it failed.
    pub subject: Option<Subject>,
    /// Description of the step.
    pub description: BTreeMap<String, String>,
}

/// Why a solve failed, as clients get it.
#[derive(Clone, thiserror::Error)]
#[error("{error}")]
pub struct BridgeError {
    /// Kind, text and details.
    pub error: RemoteError,
    /// The state of the step that failed, when there is one.
    pub state: Option<Arc<FailedState>>,
}

impl std::fmt::Debug for BridgeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl Classify for BridgeError {
    fn kind(&self) -> Kind {
        self.error.kind
    }
}

impl From<RemoteError> for BridgeError {
    fn from(error: RemoteError) -> Self {
        Self { error, state: None }
    }
}

/// A tree that is made when somebody wants it.
#[async_trait]
pub trait Reference: Send + Sync + 'static {
    /// The graph that it is the result of; `None` for a tree that no graph names.
    fn definition(&self) -> Option<Arc<Definition>>;

    /// The tree, made now if it is not there yet; `None` is an empty tree. Calls share the work.
    async fn result(&self) -> Result<Option<ImmutableRef>, BridgeError>;
}

/// What a solve gives back.
pub type FrontendResult = BuildResult<Arc<dyn Reference>>;

/// What frontends may know of the build that they work for, and of its daemon.
#[derive(Clone, Debug)]
pub struct BridgeInfo {
    /// The session that serves the files of the user; empty if there is none.
    pub session_id: String,
    /// Workers of the daemon, the default one first.
    pub workers: Vec<WorkerInfo>,
    /// Who the frontend runs for, such as `buildkit`.
    pub product: String,
    /// What graphs may use.
    pub llb_caps: CapSet,
    /// What the bridge may be asked.
    pub frontend_caps: CapSet,
}

/// What a frontend may do with the build that it belongs to.
#[async_trait]
pub trait LlbBridge: Send + Sync + 'static {
    /// What is the same for as long as the build runs.
    fn info(&self) -> &BridgeInfo;

    /// Solves a definition or runs a frontend.
    async fn solve(&self, request: SolveRequest) -> Result<FrontendResult, BridgeError>;

    /// Asks what is known of a source without fetching it. The source of the answer is the one that was asked
    /// for, or the one that takes its place.
    async fn resolve_source(
        &self,
        source: SourceOp,
        request: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), BridgeError>;

    /// Adds a warning to the progress of the build.
    ///
    /// # Errors
    /// When it has too many of them.
    fn warn(&self, warning: VertexWarning) -> Result<(), BridgeError>;
}

/// Turns options and inputs into a result. Implementations are registered in the daemon's `main`.
#[async_trait]
pub trait Frontend: Send + Sync + 'static {
    /// Its name in requests, such as `dockerfile.v0`.
    fn name(&self) -> &'static str;

    /// Solves a request that names this frontend.
    async fn solve(
        &self,
        bridge: Arc<dyn LlbBridge>,
        request: SolveRequest,
    ) -> Result<FrontendResult, BridgeError>;
}

/// The frontends of a daemon, by name.
#[derive(Clone, Default)]
pub struct FrontendRegistry {
    frontends: BTreeMap<&'static str, Arc<dyn Frontend>>,
}

impl FrontendRegistry {
    /// A registry without frontends.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a frontend; a later one of the same name takes its place.
    pub fn register(&mut self, frontend: Arc<dyn Frontend>) {
        self.frontends.insert(frontend.name(), frontend);
    }

    /// The frontend of a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Frontend>, BridgeError> {
        self.frontends
            .get(name)
            .cloned()
            .ok_or_else(|| RemoteError::new(Kind::Unknown, format!("invalid frontend: {name}")).into())
    }
}
