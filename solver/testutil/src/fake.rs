use std::collections::{HashMap, HashSet};
use std::sync::{Arc, mpsc};
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_solver::{
    CacheDep, CacheMap, CacheMapStep, CacheOptions, ContentDigest, Domain, Edge, Graph, KeySource, Op,
    OpContext, OutputIndex, Prepare, ResultId, ResultStore, VertexId, VertexSpec,
};
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::{Event, LogStream, VertexLog};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

/// The digest of a text.
pub fn digest(text: impl AsRef<[u8]>) -> Digest {
    Digest::sha256(text)
}

/// Errors of fake ops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FakeError(pub String);

impl Classify for FakeError {
    fn kind(&self) -> Kind {
        Kind::Unknown
    }
}

/// The result of a fake op: the digest of how it was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FakeOutput {
    /// What it is.
    pub value: Digest,
    /// What a content function sees of it.
    pub content: Digest,
}

/// Which call of an op fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failing {
    /// None.
    #[default]
    No,
    /// Its cache map.
    Map,
    /// Its run.
    Exec,
    /// Its run, by a panic.
    Panic,
}

/// A fake op. Its result depends on its maps and inputs only: on the content of inputs that have a
/// content function, on the value of others.
#[derive(Clone, Debug, Default)]
pub struct FakeOp {
    /// What people read.
    pub name: String,
    /// Texts of the cache maps; the vertex's name when empty.
    pub maps: Vec<String>,
    /// Number of outputs; 0 counts as 1.
    pub outputs: u32,
    /// Inputs with a content function.
    pub content: HashSet<usize>,
    /// Inputs with a preparation.
    pub prepare: HashSet<usize>,
    /// Selectors of inputs.
    pub selectors: HashMap<usize, String>,
    /// Results that are the same for a content function; all distinct when absent.
    pub same_content: Option<String>,
    /// Which call fails.
    pub failing: Failing,
    /// What each run writes to its output when it begins.
    pub says: Vec<String>,
    /// Each run takes one permit first, and says so.
    pub gate: Option<Arc<Semaphore>>,
    /// Runs at most so many at a time.
    pub limit: Option<Arc<Semaphore>>,
    /// Notified when a run begins.
    pub begun: Option<Arc<Notify>>,
    /// One call that does not hear that nobody wants it any more.
    pub deaf: Option<Arc<Deaf>>,
}

/// A call that blocks its thread, so that its task does not notice that it was cancelled, until it is told to
/// fail. Later calls are as usual.
#[derive(Debug)]
pub struct Deaf {
    call: &'static str,
    begun: Notify,
    end: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Deaf {
    /// Of the calls `map`, `digest` or `exec` the first; what is sent lets it fail.
    pub fn new(call: &'static str) -> (Arc<Self>, mpsc::Sender<()>) {
        let (sender, end) = mpsc::channel();
        (Arc::new(Self { call, begun: Notify::new(), end: Mutex::new(Some(end)) }), sender)
    }

    /// Waits until the call has begun.
    pub async fn begun(&self) {
        self.begun.notified().await;
    }

    fn enter(&self, call: &str) -> Result<(), FakeError> {
        let Some(end) = (self.call == call).then(|| self.end.lock().take()).flatten() else { return Ok(()) };
        self.begun.notify_one();
        // Who sends may be gone, which ends it as well.
        let _ = end.recv();
        Err(FakeError("cancelled".to_owned()))
    }
}

fn enter(deaf: Option<&Arc<Deaf>>, call: &str) -> Result<(), FakeError> {
    deaf.map_or(Ok(()), |deaf| deaf.enter(call))
}

/// A domain of fake ops that keeps a log of what was called, such as `exec a` or `map a 0`.
#[derive(Default)]
pub struct FakeDomain {
    log: Arc<Mutex<Vec<String>>>,
    sources: Mutex<HashMap<String, Vec<Arc<dyn KeySource>>>>,
}

impl FakeDomain {
    /// The calls so far; the log starts anew.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }

    /// Lets a job look into more keys from now on.
    pub fn add_source(&self, job: &str, source: Arc<dyn KeySource>) {
        self.sources.lock().entry(job.to_owned()).or_default().push(source);
    }

    /// The names of the vertices that ran, sorted; the log starts anew.
    pub fn take_runs(&self) -> Vec<String> {
        let mut runs: Vec<String> =
            self.take_log().iter().filter_map(|line| line.strip_prefix("exec ").map(str::to_owned)).collect();
        runs.sort();
        runs
    }
}

impl Domain for FakeDomain {
    type Vertex = FakeOp;
    type Output = FakeOutput;
    type Job = String;
    type Error = FakeError;

    fn resolve_op(&self, vertex: &VertexSpec<Self>) -> Result<Arc<dyn Op<Self>>, FakeError> {
        Ok(Arc::new(RunningOp {
            op: vertex.payload.clone(),
            inputs: vertex.inputs.len(),
            log: self.log.clone(),
        }))
    }

    fn key_sources(&self, job: &String) -> Vec<Arc<dyn KeySource>> {
        self.sources.lock().get(job).cloned().unwrap_or_default()
    }

    fn wrap_error(&self, error: FakeError, vertex: &VertexSpec<Self>) -> FakeError {
        FakeError(format!("{}: {error}", vertex.name))
    }
}

struct RunningOp {
    op: Arc<FakeOp>,
    inputs: usize,
    log: Arc<Mutex<Vec<String>>>,
}

impl RunningOp {
    fn note(&self, text: String) {
        self.log.lock().push(text);
    }

    fn map_text(&self, index: usize) -> &str {
        self.op.maps.get(index).map_or(&self.op.name, String::as_str)
    }
}

struct FakeContent {
    name: String,
    input: usize,
    log: Arc<Mutex<Vec<String>>>,
    deaf: Option<Arc<Deaf>>,
}

#[async_trait]
impl ContentDigest<FakeDomain> for FakeContent {
    async fn digest(
        &self,
        _: &OpContext<FakeDomain>,
        result: &FakeOutput,
    ) -> Result<Option<Digest>, FakeError> {
        self.log.lock().push(format!("digest {} {}", self.name, self.input));
        enter(self.deaf.as_ref(), "digest")?;
        Ok(Some(result.content.clone()))
    }
}

#[async_trait]
impl Prepare<FakeDomain> for FakeContent {
    async fn prepare(&self, _: &OpContext<FakeDomain>, _: &FakeOutput) -> Result<(), FakeError> {
        self.log.lock().push(format!("prepare {} {}", self.name, self.input));
        Ok(())
    }
}

#[async_trait]
impl Op<FakeDomain> for RunningOp {
    async fn cache_map(
        &self,
        _: &OpContext<FakeDomain>,
        index: usize,
    ) -> Result<CacheMapStep<FakeDomain>, FakeError> {
        self.note(format!("map {} {index}", self.op.name));
        enter(self.op.deaf.as_ref(), "map")?;
        if self.op.failing == Failing::Map {
            return Err(FakeError("no map".to_owned()));
        }
        let deps = (0..self.inputs).map(|input| {
            let own = || FakeContent {
                name: self.op.name.clone(),
                input,
                log: self.log.clone(),
                deaf: self.op.deaf.clone(),
            };
            CacheDep {
                selector: self.op.selectors.get(&input).map(digest),
                content: self
                    .op
                    .content
                    .contains(&input)
                    .then(|| Arc::new(own()) as Arc<dyn ContentDigest<_>>),
                prepare: self.op.prepare.contains(&input).then(|| Arc::new(own()) as Arc<dyn Prepare<_>>),
            }
        });
        let text = self.map_text(index);
        let map = CacheMap { digest: digest(text), deps: deps.collect(), preimage: Some(text.into()) };
        Ok(CacheMapStep { map, done: index + 1 >= self.op.maps.len() })
    }

    async fn acquire(&self, _: &OpContext<FakeDomain>) -> Result<Box<dyn Send + Sync>, FakeError> {
        match &self.op.limit {
            Some(limit) => {
                let permit = limit.clone().acquire_owned().await;
                Ok(Box::new(permit.map_err(|error| FakeError(error.to_string()))?))
            }
            None => Ok(Box::new(())),
        }
    }

    async fn exec(
        &self,
        cx: &OpContext<FakeDomain>,
        inputs: Vec<FakeOutput>,
    ) -> Result<Vec<FakeOutput>, FakeError> {
        self.note(format!("exec {}", self.op.name));
        for text in &self.op.says {
            cx.publish(Event::Log(VertexLog {
                vertex: cx.vertex().id.0.clone(),
                stream: LogStream::Stdout,
                data: text.clone().into(),
                timestamp: SystemTime::now(),
            }));
        }
        enter(self.op.deaf.as_ref(), "exec")?;
        if let Some(begun) = &self.op.begun {
            begun.notify_one();
        }
        if let Some(gate) = &self.op.gate {
            let permit = gate.acquire().await.map_err(|error| FakeError(error.to_string()))?;
            permit.forget();
        }
        match self.op.failing {
            Failing::Exec => return Err(FakeError("failed".to_owned())),
            Failing::Panic => panic!("fake panic"),
            Failing::No | Failing::Map => {}
        }
        let last = self.map_text(self.op.maps.len().saturating_sub(1));
        Ok(results(last, &self.op, &inputs))
    }
}

/// What an op gives for its inputs.
pub(crate) fn results(map: &str, op: &FakeOp, inputs: &[FakeOutput]) -> Vec<FakeOutput> {
    (0..op.outputs.max(1))
        .map(|output| {
            let mut text = format!("{map}@{output}");
            for (index, input) in inputs.iter().enumerate() {
                let part = if op.content.contains(&index) { &input.content } else { &input.value };
                text.push(' ');
                text.push_str(part.as_str());
            }
            let value = digest(&text);
            let content = op.same_content.as_ref().map_or_else(|| value.clone(), digest);
            FakeOutput { value, content }
        })
        .collect()
}

/// A store of fake results.
#[derive(Default)]
pub struct FakeResults {
    state: Mutex<ResultsState>,
}

#[derive(Default)]
struct ResultsState {
    next: u64,
    results: HashMap<ResultId, FakeOutput>,
    broken: bool,
    gate: Option<Arc<Semaphore>>,
    loads: u64,
}

impl FakeResults {
    /// Forgets all results, as a garbage collection would.
    pub fn clear(&self) {
        self.state.lock().results.clear();
    }

    /// Lets loads fail from now on, or succeed again.
    pub fn set_broken(&self, broken: bool) {
        self.state.lock().broken = broken;
    }

    /// Each load takes one permit first.
    pub fn set_gate(&self, gate: Arc<Semaphore>) {
        self.state.lock().gate = Some(gate);
    }

    /// Number of loads so far.
    pub fn loads(&self) -> u64 {
        self.state.lock().loads
    }
}

#[async_trait]
impl ResultStore<FakeDomain> for FakeResults {
    async fn save(&self, output: &FakeOutput, _: SystemTime) -> Result<ResultId, FakeError> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = ResultId(format!("result-{}", state.next));
        state.results.insert(id.clone(), output.clone());
        Ok(id)
    }

    async fn load(&self, _: &OpContext<FakeDomain>, id: &ResultId) -> Result<FakeOutput, FakeError> {
        let gate = {
            let mut state = self.state.lock();
            state.loads += 1;
            state.gate.clone()
        };
        if let Some(gate) = gate {
            gate.acquire().await.map_err(|error| FakeError(error.to_string()))?.forget();
        }
        let state = self.state.lock();
        if state.broken {
            return Err(FakeError("store is broken".to_owned()));
        }
        state.results.get(id).cloned().ok_or_else(|| FakeError(format!("no result {}", id.0)))
    }

    fn exists(&self, id: &ResultId) -> bool {
        self.state.lock().results.contains_key(id)
    }
}

/// Makes graphs of fake ops.
#[derive(Default)]
pub struct FakeGraph {
    vertices: Vec<Arc<VertexSpec<FakeDomain>>>,
}

impl FakeGraph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a vertex whose id is made of its name and inputs. The edge is its first output.
    pub fn add(&mut self, name: &str, inputs: &[&Edge], op: FakeOp) -> Edge {
        self.add_with(name, inputs, op, CacheOptions::default())
    }

    /// As [`add`](Self::add), with options for the cache.
    pub fn add_with(&mut self, name: &str, inputs: &[&Edge], op: FakeOp, cache: CacheOptions) -> Edge {
        let mut id = name.to_owned();
        for input in inputs {
            id.push_str(&format!(" {}.{}", input.vertex.0, input.output));
        }
        let id = VertexId(digest(id));
        let op = FakeOp { name: name.to_owned(), ..op };
        if !self.vertices.iter().any(|vertex| vertex.id == id) {
            self.vertices.push(Arc::new(VertexSpec {
                id: id.clone(),
                name: name.to_owned(),
                inputs: inputs.iter().map(|edge| (*edge).clone()).collect(),
                outputs: Some(op.outputs.max(1)),
                cache,
                progress_group: None,
                kind: "fake",
                payload: Arc::new(op),
            }));
        }
        Edge { vertex: id, output: 0 }
    }

    /// The graph so far.
    pub fn graph(&self) -> Graph<FakeDomain> {
        Graph { vertices: self.vertices.clone().into() }
    }
}

/// Another output of the same vertex.
pub fn output(edge: &Edge, output: OutputIndex) -> Edge {
    Edge { vertex: edge.vertex.clone(), output }
}
