use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::{CacheManager, ImmutableRef};
use buildkit_cache_contenthash::ContentHasher;
use buildkit_errdefs::Kind;
use buildkit_executor::Executor;
use buildkit_frontend::BridgeError;
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_solver::{Domain, Edge, Graph, KeySource, Op, OpContext, VertexSpec};
use buildkit_solver_errdefs as errdefs;
use buildkit_solver_llbsolver_mounts::MountManager;
use buildkit_solver_pb as pb;
use buildkit_source::SourceRegistry;
use buildkit_util_progress::Writer;
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::early::{EarlyLayers, WithLayers};
use crate::op_json::op_json;
use crate::ops::CACHE_KEY_FAILED;
use crate::resources::relaxed;
use crate::spec::TypedVertex;
use crate::{Error, Loaded, Result};

/// A result of an op: a tree, or `None` for an empty one.
pub type Tree = Option<ImmutableRef>;

/// The solver's domain of LLB: its vertices are validated ops, its results are refs.
pub struct LlbDomain {
    services: Arc<OpServices>,
}

/// What ops work with. One per worker.
pub struct OpServices {
    /// Holds results.
    pub cache: CacheManager,
    /// Hashes content of refs.
    pub checksums: ContentHasher,
    /// Runs processes.
    pub executor: Arc<dyn Executor>,
    /// Gets things from outside.
    pub sources: SourceRegistry,
    /// Open sessions of clients.
    pub sessions: SessionManager,
    /// Makes the mounts of processes.
    pub mounts: MountManager,
    /// Steps that may run at a time; `None` is no limit.
    pub parallelism: Option<Arc<Semaphore>>,
}

/// What ops need of one build.
pub struct JobContext {
    /// Sessions that serve the build.
    pub sessions: SessionGroup,
    /// Builds what build ops find. Its implementation must not own the job.
    pub nested: Option<Arc<dyn NestedBuilds>>,
    /// Makes layers of results as soon as they are there.
    pub layers: Option<Arc<EarlyLayers>>,
    /// Caches that it looks into.
    pub imports: JobImports,
}

/// Keys of the caches that one build looks into: it opens more while it goes on. Clones are the same.
#[derive(Clone, Default)]
pub struct JobImports(Arc<RwLock<Vec<Arc<dyn KeySource>>>>);

impl JobImports {
    /// Looks into a cache from now on.
    pub fn add(&self, keys: Arc<dyn KeySource>) {
        self.0.write().push(keys);
    }

    /// Those that are open.
    pub fn all(&self) -> Vec<Arc<dyn KeySource>> {
        self.0.read().clone()
    }
}

/// Port through which build ops solve the definitions that they find.
#[async_trait]
pub trait NestedBuilds: Send + Sync + 'static {
    /// Solves a definition in the build that it was found in. `depth` is how deep it is nested and
    /// goes into its [`LoadOptions`](crate::LoadOptions).
    async fn solve(&self, definition: pb::Definition, depth: u32) -> std::result::Result<Tree, BridgeError>;
}

impl LlbDomain {
    /// The domain of a worker.
    pub fn new(services: Arc<OpServices>) -> Self {
        Self { services }
    }

    /// What its ops work with.
    pub fn services(&self) -> &Arc<OpServices> {
        &self.services
    }
}

impl Domain for LlbDomain {
    type Vertex = TypedVertex;
    type Output = Tree;
    type Job = JobContext;
    type Error = Error;

    fn resolve_op(&self, vertex: &VertexSpec<Self>) -> Result<Arc<dyn Op<Self>>> {
        Ok(WithLayers::wrap(crate::ops::op_of(&self.services, &vertex.payload), &vertex.payload))
    }

    fn merge_vertex(&self, active: &TypedVertex, loaded: &TypedVertex) -> Option<Arc<TypedVertex>> {
        let resources = match (&active.resources, &loaded.resources) {
            (Some(a), Some(b)) => Some(relaxed(a, b)),
            (only, None) | (None, only) => only.clone(),
        };
        (resources != active.resources).then(|| Arc::new(TypedVertex { resources, ..active.clone() }))
    }

    fn key_sources(&self, job: &JobContext) -> Vec<Arc<dyn KeySource>> {
        job.imports.all()
    }

    fn vertex_text(&self, error: &Error) -> String {
        let text = error.to_string();
        text.strip_prefix(CACHE_KEY_FAILED).map_or_else(|| text.clone(), str::to_owned)
    }

    fn wrap_error(&self, error: Error, vertex: &VertexSpec<Self>) -> Error {
        let digest = &vertex.id.0;
        let Error::Failed(mut failed) = error.into_failed() else {
            // `into_failed` keeps cancellations only.
            return Error::Cancelled;
        };
        let is_first = !failed
            .error
            .details
            .iter()
            .any(|detail| matches!(errdefs::parse(detail), Some(errdefs::ParsedDetail::Vertex(_))));
        // A nested build has named the step that failed in it.
        if is_first {
            failed.error = failed.error.with(errdefs::vertex(digest));
            if let Some(state) = &mut failed.state {
                let state = Arc::make_mut(state);
                state.description = vertex.payload.description.iter().cloned().collect();
                state.op_json = op_json(&wire_op(vertex));
            }
        }
        Error::Failed(failed)
    }
}

/// The op as it is on the wire.
fn wire_op(vertex: &VertexSpec<LlbDomain>) -> pb::Op {
    let input = |edge: &Edge| pb::Input { digest: edge.vertex.0.to_string(), index: edge.output.into() };
    pb::Op {
        inputs: vertex.inputs.iter().map(input).collect(),
        platform: Some(vertex.payload.platform.clone()),
        constraints: None,
        op: Some(vertex.payload.op.to_pb()),
    }
}

impl Loaded {
    /// The solver's form of the graph.
    pub fn graph(&self) -> Graph<LlbDomain> {
        let vertices = self
            .vertices
            .iter()
            .map(|vertex| {
                Arc::new(VertexSpec {
                    id: vertex.id.clone(),
                    name: vertex.name.clone(),
                    inputs: vertex.inputs.clone(),
                    outputs: Some(vertex.outputs),
                    cache: vertex.cache,
                    progress_group: vertex.progress_group.clone(),
                    kind: vertex.payload.op.kind(),
                    payload: vertex.payload.clone(),
                })
            })
            .collect();
        Graph { vertices }
    }
}

/// Sessions of all builds that want a vertex, those of the oldest first, whenever they are asked for.
pub(crate) fn sessions(cx: &OpContext<LlbDomain>) -> SessionGroup {
    // Sources keep it for as long as the vertex keeps them.
    let cx = cx.downgrade();
    SessionGroup::live(move || cx.jobs().iter().flat_map(|job| job.sessions.ids()).collect())
}

/// Progress of a vertex, to all builds that want it.
pub(crate) fn writer(cx: &OpContext<LlbDomain>) -> Writer {
    let weak = cx.downgrade();
    Writer::new(cx.vertex().id.0.clone(), Arc::new(move |event| weak.publish(event)))
}

/// A failure of a step, as it goes to the client.
///
/// Upstream sends what went wrong inside a step without a gRPC code, and its clients print a code in
/// front of the text; so only kinds that are not about the step's own content keep theirs.
pub(crate) fn failed(kind: Kind, message: impl Into<String>) -> Error {
    let kind = match kind {
        Kind::Cancelled
        | Kind::DeadlineExceeded
        | Kind::ResourceExhausted
        | Kind::Internal
        | Kind::Unavailable
        | Kind::DataLoss => kind,
        _ => Kind::Unknown,
    };
    failed_remotely(kind, message)
}

/// A failure whose kind a peer has named.
pub(crate) fn failed_remotely(kind: Kind, message: impl Into<String>) -> Error {
    Error::Failed(BridgeError::from(buildkit_util_grpcerrors::RemoteError::new(kind, message)))
}
