use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::ImmutableRef;
use buildkit_client_llb_sourceresolver::{MetaRequest, MetaResponse};
use buildkit_errdefs::{Classify, Kind};
use buildkit_solver_errdefs::Subject;
use buildkit_solver_pb::{Definition, SourceOp};
use buildkit_solver_result::BuildResult;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::VertexWarning;

/// A cache to look results up in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheImport {
    /// Kind, such as `registry`.
    pub kind: String,
    /// Its options.
    pub attrs: BTreeMap<String, String>,
}

/// What to solve: a definition, or a frontend with its options. With neither the result is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SolveRequest {
    /// Solve now, not when a ref of the result is used.
    pub evaluate: bool,
    /// A graph.
    pub definition: Option<Definition>,
    /// Name of a frontend.
    pub frontend: String,
    /// Options of the frontend.
    pub frontend_opt: BTreeMap<String, String>,
    /// Graphs that the frontend may use by name.
    pub frontend_inputs: BTreeMap<String, Definition>,
    /// Caches to use.
    pub cache_imports: Vec<CacheImport>,
}

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

/// What a frontend may do with the build that it belongs to.
#[async_trait]
pub trait LlbBridge: Send + Sync + 'static {
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
    fn warn(&self, warning: VertexWarning);
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
            .ok_or_else(|| RemoteError::new(Kind::Unimplemented, format!("invalid frontend: {name}")).into())
    }
}
