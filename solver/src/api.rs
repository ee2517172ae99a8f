//! What other crates plug into the scheduler.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_errdefs::Classify;
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::{Event, ProgressGroup};
use tokio_util::sync::CancellationToken;

use crate::KeySource;

/// Id of a vertex: the digest of its definition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub Digest);

/// Number of an output of a vertex, from 0.
pub type OutputIndex = u32;

/// Where a saved result is; given by [`ResultStore`], opaque to the solver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultId(pub String);

/// The types of the layer above. One solver has one domain.
pub trait Domain: Sized + Send + Sync + 'static {
    /// What an op is made of (for LLB: a validated op with its platform and metadata).
    type Vertex: Send + Sync + 'static;
    /// One output of a vertex. Dropping the last clone releases it.
    type Output: Clone + Send + Sync + 'static;
    /// What ops need of a build that wants them, such as its sessions.
    type Job: Send + Sync + 'static;
    /// Errors of ops. All consumers of an edge get clones of its error.
    type Error: Classify + Clone + Send + Sync + 'static;

    /// Makes the op of a vertex. Must not block.
    fn resolve_op(&self, vertex: &VertexSpec<Self>) -> Result<Arc<dyn Op<Self>>, Self::Error>;

    /// A vertex that is active is loaded again with other data that is not in its digest
    /// (resource limits, descriptions): the data both can live with, or `None` to keep the old.
    fn merge_vertex(&self, _active: &Self::Vertex, _loaded: &Self::Vertex) -> Option<Arc<Self::Vertex>> {
        None
    }

    /// Keys of elsewhere that a job looks into besides the store, in their order. They find nothing for vertices
    /// that this job does not want. Asked for at each look-up, so that a job may add some while it goes on:
    /// must not block.
    fn key_sources(&self, _job: &Self::Job) -> Vec<Arc<dyn KeySource>> {
        Vec::new()
    }

    /// Puts the failing vertex into an error of one of its ops.
    fn wrap_error(&self, error: Self::Error, _vertex: &VertexSpec<Self>) -> Self::Error {
        error
    }

    /// What is shown at a failed vertex. The error of the build may say more of how it came there.
    fn vertex_text(&self, error: &Self::Error) -> String {
        error.to_string()
    }
}

/// One vertex of a [`Graph`].
pub struct VertexSpec<D: Domain> {
    /// Its id; vertices of one id are one node, shared by all builds.
    pub id: VertexId,
    /// What people read in the progress.
    pub name: String,
    /// Inputs in order; each names an earlier vertex of the same graph.
    pub inputs: Vec<Edge>,
    /// Number of outputs when known before it runs (an index at or above fails the request).
    pub outputs: Option<u32>,
    /// Caching of this vertex.
    pub cache: CacheOptions,
    /// Steps that are shown as one.
    pub progress_group: Option<ProgressGroup>,
    /// Kind of the op, for durations and preimages, such as `exec`.
    pub kind: &'static str,
    /// What the op is made of.
    pub payload: Arc<D::Vertex>,
}

impl<D: Domain> VertexSpec<D> {
    /// A vertex with one output, cached as usual, whose name is that of its kind.
    pub fn new(id: VertexId, kind: &'static str, inputs: Vec<Edge>, payload: D::Vertex) -> Self {
        Self {
            id,
            name: kind.to_owned(),
            inputs,
            outputs: Some(1),
            cache: CacheOptions::default(),
            progress_group: None,
            kind,
            payload: Arc::new(payload),
        }
    }
}

/// How a vertex uses the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// Run although there is a result; see "Ignoring the cache" in the solver's contract.
    pub ignore: bool,
    /// Whether records of this vertex are exported; `None` leaves it to the exporter.
    pub export: Option<bool>,
}

/// One output of one vertex.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The vertex.
    pub vertex: VertexId,
    /// Which of its outputs.
    pub output: OutputIndex,
}

/// A validated graph: every input of a vertex stands before the vertex. Cheap to clone.
pub struct Graph<D: Domain> {
    /// The vertices in topological order.
    pub vertices: Arc<[Arc<VertexSpec<D>>]>,
}

impl<D: Domain> Clone for Graph<D> {
    fn clone(&self) -> Self {
        Self { vertices: self.vertices.clone() }
    }
}

/// What an op says of its caching. See "Cache map" in the solver's contract.
pub struct CacheMap<D: Domain> {
    /// Digest of everything of the op that its result depends on, the inputs apart.
    pub digest: Digest,
    /// One entry per input, in order.
    pub deps: Vec<CacheDep<D>>,
    /// A short readable form of what `digest` was made of, kept with the key.
    pub preimage: Option<Arc<str>>,
}

/// How one input takes part in the key.
pub struct CacheDep<D: Domain> {
    /// What the op uses of the input, when not all.
    pub selector: Option<Digest>,
    /// Makes the content key of the input, when the op allows one.
    pub content: Option<Arc<dyn ContentDigest<D>>>,
    /// Runs on the input's result before the op does.
    pub prepare: Option<Arc<dyn Prepare<D>>>,
}

impl<D: Domain> Default for CacheDep<D> {
    fn default() -> Self {
        Self { selector: None, content: None, prepare: None }
    }
}

/// One answer of [`Op::cache_map`].
pub struct CacheMapStep<D: Domain> {
    /// The map.
    pub map: CacheMap<D>,
    /// Whether there are no more maps. A vertex with inputs has one map only.
    pub done: bool,
}

impl<D: Domain> CacheMapStep<D> {
    /// The only map of an op that uses all of each of its `inputs`.
    pub fn only(digest: Digest, inputs: usize) -> Self {
        let deps = (0..inputs).map(|_| CacheDep::default()).collect();
        Self { map: CacheMap { digest, deps, preimage: None }, done: true }
    }
}

/// Makes the content digest of an input.
#[async_trait]
pub trait ContentDigest<D: Domain>: Send + Sync + 'static {
    /// The digest of what the op uses of `result`; `None` when it has none, which leaves the input
    /// with its definition keys.
    async fn digest(&self, cx: &OpContext<D>, result: &D::Output) -> Result<Option<Digest>, D::Error>;
}

/// Prepares an input for use, such as making a lazy result real.
#[async_trait]
pub trait Prepare<D: Domain>: Send + Sync + 'static {
    /// Prepares `result`. Called again when the vertex is solved again.
    async fn prepare(&self, cx: &OpContext<D>, result: &D::Output) -> Result<(), D::Error>;
}

/// An operation. Calls come from tasks that are dropped when nobody wants the result any more; a
/// dropped call must leave nothing behind. [`OpContext::cancelled`] fires at the same time for work
/// that runs elsewhere.
#[async_trait]
pub trait Op<D: Domain>: Send + Sync + 'static {
    /// The `index`-th cache map, asked for in order from 0 until one is `done`. May do I/O.
    async fn cache_map(&self, cx: &OpContext<D>, index: usize) -> Result<CacheMapStep<D>, D::Error>;

    /// Waits for the right to run: an opaque permit that is held while [`exec`](Self::exec) runs.
    async fn acquire(&self, _cx: &OpContext<D>) -> Result<Box<dyn Send + Sync>, D::Error> {
        Ok(Box::new(()))
    }

    /// Runs the op: all outputs, in order.
    async fn exec(&self, cx: &OpContext<D>, inputs: Vec<D::Output>) -> Result<Vec<D::Output>, D::Error>;
}

/// Where results live. The solver keeps only the ids.
#[async_trait]
pub trait ResultStore<D: Domain>: Send + Sync + 'static {
    /// Keeps a result so that it can be loaded later; the id is written beside the key.
    async fn save(&self, output: &D::Output, created_at: SystemTime) -> Result<ResultId, D::Error>;
    /// Loads a result. An error drops the record and the search goes on.
    async fn load(&self, cx: &OpContext<D>, id: &ResultId) -> Result<D::Output, D::Error>;
    /// Whether the result still exists; must be cheap and not block.
    fn exists(&self, id: &ResultId) -> bool;
}

/// What an op knows of its surroundings while it works.
///
/// (Fields are private to the driver; see the methods.)
pub struct OpContext<D: Domain> {
    pub(crate) vertex: Arc<VertexSpec<D>>,
    pub(crate) shared: Arc<dyn OpShared<D>>,
    pub(crate) cancelled: CancellationToken,
}

/// The driver's side of an [`OpContext`].
pub(crate) trait OpShared<D: Domain>: Send + Sync {
    fn jobs(&self) -> Vec<Arc<D::Job>>;
    fn publish(&self, event: Event);
    fn payload(&self) -> Arc<D::Vertex>;
}

/// An [`OpContext`] that keeps nothing. Nobody wants a vertex that is gone.
pub struct WeakOpContext<D: Domain> {
    shared: std::sync::Weak<dyn OpShared<D>>,
}

impl<D: Domain> WeakOpContext<D> {
    /// As [`OpContext::jobs`].
    pub fn jobs(&self) -> Vec<Arc<D::Job>> {
        self.shared.upgrade().map_or_else(Vec::new, |shared| shared.jobs())
    }

    /// As [`OpContext::publish`].
    pub fn publish(&self, event: Event) {
        if let Some(shared) = self.shared.upgrade() {
            shared.publish(event);
        }
    }
}

impl<D: Domain> Clone for OpContext<D> {
    fn clone(&self) -> Self {
        Self { vertex: self.vertex.clone(), shared: self.shared.clone(), cancelled: self.cancelled.clone() }
    }
}

impl<D: Domain> OpContext<D> {
    /// The vertex that the op belongs to.
    pub fn vertex(&self) -> &VertexSpec<D> {
        &self.vertex
    }

    /// The data of the vertex after merging with other builds' (see [`Domain::merge_vertex`]).
    pub fn payload(&self) -> Arc<D::Vertex> {
        self.shared.payload()
    }

    /// The builds that want the vertex now, oldest first. Ask again for each use: they come and go.
    pub fn jobs(&self) -> Vec<Arc<D::Job>> {
        self.shared.jobs()
    }

    /// Adds to the progress of all builds that want the vertex.
    pub fn publish(&self, event: Event) {
        self.shared.publish(event);
    }

    /// What may be kept beyond the work: it does not keep the vertex, which has the op that may keep this.
    pub fn downgrade(&self) -> WeakOpContext<D> {
        WeakOpContext { shared: Arc::downgrade(&self.shared) }
    }

    /// Fires when nobody wants the result any more.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }
}
