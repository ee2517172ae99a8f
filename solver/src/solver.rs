use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use buildkit_util_appcontext::TaskGuard;
use buildkit_util_progress::Bus;
use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::driver::{self, Message, Owner};
use crate::graph::{JobKey, RequestId};
use crate::{CacheKeyStore, Domain, Edge, Error, ExportableKey, Graph, ResultStore, StoreError, VertexId};

/// Lost results that the owner forgets at once; builds go on between two such batches.
const RELEASE_BATCH: usize = 256;

/// Id of a job, given by whoever makes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub String);

/// What a solver needs beside its ports.
#[derive(Clone)]
pub struct SolverOptions {
    /// The time, for progress, records and durations.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Default for SolverOptions {
    fn default() -> Self {
        Self { clock: Arc::new(SystemTime::now) }
    }
}

/// Schedules the builds of all jobs over one shared graph. Clones are the same solver.
///
/// When the last clone and the last job are dropped, all work ends.
pub struct Solver<D: Domain> {
    inner: Arc<Inner<D>>,
}

impl<D: Domain> Clone for Solver<D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<D: Domain> {
    domain: Arc<D>,
    keys: Arc<dyn CacheKeyStore>,
    results: Arc<dyn ResultStore<D>>,
    messages: mpsc::UnboundedSender<Message<D>>,
    jobs: Mutex<HashSet<JobId>>,
    numbers: AtomicU64,
    _owner: TaskGuard<()>,
}

impl<D: Domain> Inner<D> {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

impl<D: Domain> Solver<D> {
    /// A solver over these ports. Call it inside a Tokio runtime.
    pub fn new(
        domain: D,
        keys: Arc<dyn CacheKeyStore>,
        results: Arc<dyn ResultStore<D>>,
        options: SolverOptions,
    ) -> Self {
        let domain = Arc::new(domain);
        let (messages, inbox) = mpsc::unbounded_channel();
        let owner = Owner::new(domain.clone(), keys.clone(), results.clone(), options, messages.clone());
        let owner = buildkit_util_appcontext::spawn(owner.run(inbox));
        let jobs = Mutex::default();
        let numbers = AtomicU64::new(1);
        Self { inner: Arc::new(Inner { domain, keys, results, messages, jobs, numbers, _owner: owner }) }
    }

    /// The domain.
    pub fn domain(&self) -> &D {
        &self.inner.domain
    }

    /// The store of keys.
    pub fn keys(&self) -> &Arc<dyn CacheKeyStore> {
        &self.inner.keys
    }

    /// The store of results.
    pub fn results(&self) -> &Arc<dyn ResultStore<D>> {
        &self.inner.results
    }

    /// Forgets the keys whose results are gone, with the chains that led to nothing else. To be called
    /// after results were deleted, as by a garbage collection; a result that is missing at a look-up
    /// is forgotten without it.
    ///
    /// Builds may run meanwhile. The number of results that were missing.
    ///
    /// # Errors
    /// When the store of keys cannot say what it has.
    pub async fn release_lost(&self) -> Result<usize, Error<D::Error>> {
        let (keys, results) = (self.inner.keys.clone(), self.inner.results.clone());
        let find = buildkit_util_appcontext::spawn_blocking(move || {
            let mut lost = keys.results()?;
            lost.retain(|result| !results.exists(result));
            Ok(lost)
        });
        let lost = match find.await {
            Ok(lost) => lost.map_err(|error: StoreError| Error::Internal(error.to_string()))?,
            Err(error) => return Err(Error::Internal(error.to_string())),
        };
        for batch in lost.chunks(RELEASE_BATCH) {
            // By the owner, so that no key goes while a result is being saved under it.
            let (done, released) = oneshot::channel();
            driver::send(&self.inner.messages, Message::ReleaseLost(batch.to_vec(), done));
            released.await.map_err(|_| Error::Cancelled)?;
        }
        Ok(lost.len())
    }

    /// Starts a job. Its vertices are shown on `progress`.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when a job of this id is there.
    pub fn new_job(&self, id: JobId, data: Arc<D::Job>, progress: Bus) -> Result<Job<D>, Error<D::Error>> {
        if !self.inner.jobs.lock().insert(id.clone()) {
            return Err(Error::AlreadyExists(format!("job ID {} exists", id.0)));
        }
        let key = JobKey(self.inner.number());
        driver::send(&self.inner.messages, Message::NewJob(key, data.clone(), progress.clone()));
        Ok(Job { solver: self.clone(), id, key, data, progress })
    }
}

/// A build as the solver sees it: it keeps vertices active. Dropping it discards what only it wants.
pub struct Job<D: Domain> {
    solver: Solver<D>,
    id: JobId,
    key: JobKey,
    data: Arc<D::Job>,
    progress: Bus,
}

/// One edge's result.
pub struct CachedResult<D: Domain> {
    /// The result.
    pub output: D::Output,
    /// Its keys: where an export of the cache begins.
    pub keys: Vec<ExportableKey>,
    /// The edge as it was asked for.
    pub edge: Edge,
}

impl<D: Domain> Clone for CachedResult<D> {
    fn clone(&self) -> Self {
        Self { output: self.output.clone(), keys: self.keys.clone(), edge: self.edge.clone() }
    }
}

impl<D: Domain> Job<D> {
    /// Its id.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// What ops see of it.
    pub fn data(&self) -> &Arc<D::Job> {
        &self.data
    }

    /// Where its vertices are shown.
    pub fn progress(&self) -> &Bus {
        &self.progress
    }

    /// Builds one edge of a graph. Any number of builds of one job may run at a time; dropping the
    /// future withdraws the wish. The vertices that the edge needs stay active until the job ends,
    /// so that the next build of the job shares them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a graph whose vertices are not in order, not unique, or have inputs or
    /// a wanted edge that do not exist; else why the edge has no result.
    pub async fn build(&self, graph: &Graph<D>, edge: Edge) -> Result<CachedResult<D>, Error<D::Error>> {
        let (needed, target) = needed_part(graph, &edge)?;
        let request = RequestId(self.solver.inner.number());
        let (respond, answer) = oneshot::channel();
        let mut withdraw = Withdraw { messages: &self.solver.inner.messages, request, open: true };
        let message =
            Message::Build { job: self.key, request, graph: needed, target: (target, edge.output), respond };
        driver::send(&self.solver.inner.messages, message);
        let answer = answer.await;
        withdraw.open = false;
        let (output, keys) = answer.unwrap_or(Err(Error::Cancelled))?;
        Ok(CachedResult { output, keys, edge })
    }
}

impl<D: Domain> Drop for Job<D> {
    fn drop(&mut self) {
        self.solver.inner.jobs.lock().remove(&self.id);
        driver::send(&self.solver.inner.messages, Message::JobGone(self.key));
    }
}

/// Takes a wish back unless it was answered.
struct Withdraw<'a, D: Domain> {
    messages: &'a mpsc::UnboundedSender<Message<D>>,
    request: RequestId,
    open: bool,
}

impl<D: Domain> Drop for Withdraw<'_, D> {
    fn drop(&mut self) {
        if self.open {
            driver::send(self.messages, Message::Withdraw(self.request));
        }
    }
}

/// Checks a graph and cuts out what an edge needs, inputs as positions.
#[expect(clippy::type_complexity, reason = "one private use")]
fn needed_part<D: Domain>(
    graph: &Graph<D>,
    edge: &Edge,
) -> Result<(Vec<driver::Loaded<D>>, u32), Error<D::Error>> {
    let mut places: HashMap<&VertexId, usize> = HashMap::default();
    places.reserve(graph.vertices.len());
    let find = |places: &HashMap<&VertexId, usize>, edge: &Edge| {
        let place = *places.get(&edge.vertex)?;
        let vertex = graph.vertices.get(place)?;
        vertex.outputs.is_none_or(|count| edge.output < count).then_some(place)
    };
    let mut inputs: Vec<Vec<usize>> = Vec::with_capacity(graph.vertices.len());
    for (place, vertex) in graph.vertices.iter().enumerate() {
        let mut own = Vec::with_capacity(vertex.inputs.len());
        for input in &vertex.inputs {
            own.push(find(&places, input).ok_or_else(|| {
                let (id, output) = (&input.vertex.0, input.output);
                Error::Invalid(format!(
                    "Input `{id}` output {output} of vertex `{}` does not exist",
                    vertex.id.0
                ))
            })?);
        }
        inputs.push(own);
        if places.insert(&vertex.id, place).is_some() {
            return Err(Error::Invalid(format!("Vertex `{}` is in the graph twice", vertex.id.0)));
        }
    }
    let target = find(&places, edge).ok_or_else(|| {
        Error::Invalid(format!("Wanted vertex `{}` output {} does not exist", edge.vertex.0, edge.output))
    })?;
    let mut needed = vec![false; graph.vertices.len()];
    let mut pending = vec![target];
    while let Some(place) = pending.pop() {
        if let Some(seen) = needed.get_mut(place)
            && !std::mem::replace(seen, true)
        {
            pending.extend(inputs.get(place).into_iter().flatten());
        }
    }
    let mut new_places = vec![0u32; graph.vertices.len()];
    let mut part = Vec::new();
    for (place, vertex) in graph.vertices.iter().enumerate() {
        if !needed.get(place).copied().unwrap_or_default() {
            continue;
        }
        if let Some(slot) = new_places.get_mut(place) {
            *slot = part.len() as u32;
        }
        let own = inputs.get(place).into_iter().flatten().zip(&vertex.inputs);
        let own =
            own.map(|(place, input)| (new_places.get(*place).copied().unwrap_or_default(), input.output));
        part.push(driver::Loaded { inputs: own.collect(), spec: vertex.clone() });
    }
    Ok((part, new_places.get(target).copied().unwrap_or_default()))
}
