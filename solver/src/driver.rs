//! The task that owns the graph: turns its actions into tasks, and what they give into events.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use buildkit_util_appcontext::TaskGuard;
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::Bus;
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::InternalError;
use crate::graph::{
    Action, ActionId, Answer, DepInfo, EdgeId, Event, Failure, Finished, Graph, JobKey, LoadVertex, MapInfo,
    NodeId, OutputId, Question, RequestId, SaveKey,
};
use crate::progress::{ActiveVertex, Status};
use crate::schedule::{Durations, Gate};
use crate::{
    CacheKeyStore, CacheMapStep, Domain, Error, ExportableKey, Link, NewKey, OpContext, OutputIndex, Parent,
    Record, ResultId, ResultStore, SolverOptions, VertexSpec, derived_key, save_record,
};

/// Messages that the owner takes in at once.
const BATCH: usize = 4096;

/// A vertex of a build with its inputs as positions.
pub(crate) struct Loaded<D: Domain> {
    pub(crate) inputs: Vec<(u32, OutputIndex)>,
    pub(crate) spec: Arc<VertexSpec<D>>,
}

type Respond<D> =
    oneshot::Sender<Result<(<D as Domain>::Output, Vec<ExportableKey>), Error<<D as Domain>::Error>>>;

pub(crate) enum Message<D: Domain> {
    NewJob(JobKey, Arc<D::Job>, Bus),
    Build {
        job: JobKey,
        request: RequestId,
        graph: Vec<Loaded<D>>,
        target: (u32, OutputIndex),
        respond: Respond<D>,
    },
    Withdraw(RequestId),
    JobGone(JobKey),
    Mapped(ActionId, NodeId, Result<CacheMapStep<D>, Fault<D>>),
    Digested(ActionId, NodeId, Result<Option<Digest>, Fault<D>>),
    Fetched(ActionId, ResultId, Result<D::Output, Fault<D>>),
    Permitted(ActionId, &'static str),
    Executed(ActionId, NodeId, Result<Vec<D::Output>, Fault<D>>, f32),
    Saved(ActionId, Result<ResultId, Fault<D>>, SystemTime),
    Ended(ActionId),
}

/// Sends to the owner; when it has gone there is nobody to tell.
pub(crate) fn send<D: Domain>(messages: &mpsc::UnboundedSender<Message<D>>, message: Message<D>) {
    let _ = messages.send(message);
}

/// Why work gave nothing.
pub(crate) enum Fault<D: Domain> {
    Op(D::Error),
    Panic(String),
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Contains a panic of an op to the work it happened in.
fn contain<D: Domain, T>(
    work: impl Future<Output = Result<T, D::Error>> + Send + 'static,
) -> impl Future<Output = Result<T, Fault<D>>> + Send + 'static {
    AssertUnwindSafe(work).catch_unwind().map(|result| match result {
        Ok(result) => result.map_err(Fault::Op),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Fault::Panic(text.unwrap_or_else(|| "no message".to_owned())))
        }
    })
}

/// Tells the owner when work was dropped before it gave a result.
struct EndGuard<D: Domain> {
    messages: mpsc::UnboundedSender<Message<D>>,
    action: ActionId,
    armed: bool,
}

impl<D: Domain> EndGuard<D> {
    fn finish(mut self, message: Message<D>) {
        self.armed = false;
        send(&self.messages, message);
    }
}

impl<D: Domain> Drop for EndGuard<D> {
    fn drop(&mut self) {
        if self.armed {
            send(&self.messages, Message::Ended(self.action));
        }
    }
}

/// What is noted about work before it starts: how to cancel it, whose it is, its kind, when it began to run.
type Noted =
    (CancellationToken, Option<NodeId>, Option<&'static str>, Arc<parking_lot::Mutex<Option<SystemTime>>>);

struct Running<D: Domain> {
    cancelled: CancellationToken,
    node: Option<NodeId>,
    kind: Option<&'static str>,
    started: Arc<parking_lot::Mutex<Option<SystemTime>>>,
    _task: TaskGuard<()>,
    _domain: std::marker::PhantomData<fn() -> D>,
}

struct Ready {
    node: NodeId,
    inputs: Vec<OutputId>,
    kind: &'static str,
}

pub(crate) struct Owner<D: Domain> {
    graph: Graph,
    domain: Arc<D>,
    keys: Arc<dyn CacheKeyStore>,
    results: Arc<dyn ResultStore<D>>,
    options: SolverOptions,
    messages: mpsc::UnboundedSender<Message<D>>,
    vertices: HashMap<NodeId, Arc<ActiveVertex<D>>>,
    jobs: HashMap<JobKey, (Arc<D::Job>, Bus)>,
    builds: HashMap<RequestId, Vec<Arc<VertexSpec<D>>>>,
    waiting: HashMap<RequestId, Respond<D>>,
    outputs: HashMap<OutputId, D::Output>,
    last_output: u64,
    running: HashMap<ActionId, Running<D>>,
    ready: HashMap<ActionId, Ready>,
    saving: HashMap<ActionId, Vec<SaveKey>>,
    fetching: HashMap<EdgeId, SystemTime>,
    gates: HashMap<&'static str, Gate>,
    durations: Durations,
    /// Events that came up while actions were performed.
    backlog: Vec<Event>,
}

impl<D: Domain> Owner<D> {
    pub(crate) fn new(
        domain: Arc<D>,
        keys: Arc<dyn CacheKeyStore>,
        results: Arc<dyn ResultStore<D>>,
        options: SolverOptions,
        messages: mpsc::UnboundedSender<Message<D>>,
    ) -> Self {
        Self {
            graph: Graph::new(),
            domain,
            keys,
            results,
            options,
            messages,
            vertices: HashMap::new(),
            jobs: HashMap::new(),
            builds: HashMap::new(),
            waiting: HashMap::new(),
            outputs: HashMap::new(),
            last_output: 0,
            running: HashMap::new(),
            ready: HashMap::new(),
            saving: HashMap::new(),
            fetching: HashMap::new(),
            gates: HashMap::new(),
            durations: Durations::default(),
            backlog: Vec::new(),
        }
    }

    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message<D>>) {
        let mut batch = Vec::new();
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            for message in batch.drain(..) {
                let leaves = matches!(message, Message::JobGone(_));
                self.receive(message);
                if leaves {
                    // What only it wanted is gone before the next build looks for active vertices.
                    self.turn();
                }
            }
            self.turn();
        }
    }

    /// Feeds the graph until it has nothing to say.
    fn turn(&mut self) {
        while !self.backlog.is_empty() {
            let mut events = std::mem::take(&mut self.backlog);
            loop {
                let mut actions = self.graph.step(events.drain(..));
                let questions = match actions.pop() {
                    Some(Action::Ask(questions)) => questions,
                    last => {
                        actions.extend(last);
                        Vec::new()
                    }
                };
                for action in actions {
                    self.perform(action);
                }
                if questions.is_empty() {
                    break;
                }
                events.push(Event::Answered(self.answer(questions)));
            }
        }
    }

    fn now(&self) -> SystemTime {
        (self.options.clock)()
    }

    fn receive(&mut self, message: Message<D>) {
        let event = match message {
            Message::NewJob(key, data, bus) => {
                self.jobs.insert(key, (data, bus));
                return;
            }
            Message::Build { job, request, graph, target, respond } => {
                let durations = &self.durations;
                let vertices = graph
                    .iter()
                    .map(|loaded| LoadVertex {
                        id: loaded.spec.id.clone(),
                        inputs: loaded.inputs.clone(),
                        ignore_cache: loaded.spec.cache.ignore,
                        export: loaded.spec.cache.export,
                        cost: durations.of_kind(loaded.spec.kind),
                    })
                    .collect();
                self.builds.insert(request, graph.into_iter().map(|loaded| loaded.spec).collect());
                self.waiting.insert(request, respond);
                Event::Build { job, request, vertices, target }
            }
            Message::Withdraw(request) => {
                self.waiting.remove(&request);
                Event::Withdraw(request)
            }
            Message::JobGone(job) => {
                self.jobs.remove(&job);
                Event::JobGone(job)
            }
            Message::Mapped(action, node, result) => self.mapped(action, node, result),
            Message::Digested(action, node, result) => {
                self.running.remove(&action);
                let result = result.map_err(|fault| {
                    let now = self.now();
                    self.failure(node, fault, Some(now))
                });
                Event::Digested(action, result)
            }
            Message::Fetched(action, id, result) => {
                self.running.remove(&action);
                let output = match result {
                    Ok(output) => Some(self.keep(output)),
                    Err(fault) => {
                        let error = fault.text();
                        tracing::warn!(result = %id.0, error, "cached result cannot be loaded, looking further");
                        if !self.results.exists(&id)
                            && let Err(error) = self.keys.release(&id)
                        {
                            warn_store(&error);
                        }
                        None
                    }
                };
                Event::Fetched(action, output)
            }
            Message::Permitted(action, kind) => {
                self.gates.entry(kind).or_default().permitted(action);
                self.open_gate(kind);
                return;
            }
            Message::Executed(action, node, result, seconds) => self.executed(action, node, result, seconds),
            Message::Saved(action, result, created_at) => self.saved(action, result, created_at),
            Message::Ended(action) => self.ended(action),
        };
        self.backlog.push(event);
    }

    fn mapped(&mut self, action: ActionId, node: NodeId, result: Result<CacheMapStep<D>, Fault<D>>) -> Event {
        let started = self.take_running(action);
        let vertex = self.vertices.get(&node).cloned();
        let result = match result {
            Ok(step) => {
                let deps = step.map.deps.iter().map(|dep| DepInfo {
                    selector: dep.selector.clone(),
                    content: dep.content.is_some(),
                    prepare: dep.prepare.is_some(),
                });
                let info = MapInfo {
                    digest: step.map.digest.clone(),
                    deps: deps.collect(),
                    done: step.done,
                    preimage: step.map.preimage.clone(),
                };
                if let Some(vertex) = &vertex {
                    vertex.add_map(step.map);
                    if started.is_some() {
                        let completed = Some(self.now());
                        vertex.show(&Status { started, completed, ..Status::default() });
                    }
                }
                Ok(info)
            }
            Err(fault) => {
                let started = started.unwrap_or_else(|| self.now());
                Err(self.failure(node, fault, Some(started)))
            }
        };
        Event::Mapped(action, result)
    }

    fn executed(
        &mut self,
        action: ActionId,
        node: NodeId,
        result: Result<Vec<D::Output>, Fault<D>>,
        seconds: f32,
    ) -> Event {
        let started = self.take_running(action);
        let vertex = self.vertices.get(&node).cloned();
        let result = match result {
            Ok(outputs) => {
                if let Some(vertex) = &vertex {
                    let map = vertex.first_map();
                    self.durations.record(vertex.spec.kind, map.as_ref().map(|map| &map.digest), seconds);
                    let completed = Some(self.now());
                    vertex.show(&Status { started, completed, ..Status::default() });
                }
                Ok(outputs.into_iter().map(|output| self.keep(output)).collect())
            }
            Err(fault) => {
                let started = started.unwrap_or_else(|| self.now());
                Err(self.failure(node, fault, Some(started)))
            }
        };
        Event::Executed(action, result)
    }

    fn saved(
        &mut self,
        action: ActionId,
        result: Result<ResultId, Fault<D>>,
        created_at: SystemTime,
    ) -> Event {
        let Some(keys) = self.saving.remove(&action) else { return Event::Cancelled(action) };
        let record = match result {
            Ok(result) => Some(Record { result, created_at, priority: 0 }),
            Err(fault) => {
                let error = fault.text();
                tracing::warn!(error, "result cannot be saved to the cache");
                None
            }
        };
        let ids = keys.iter().map(|key| {
            let parents = key.deps.iter().map(|deps| {
                let parent = |dep: &crate::KeyDep| Parent {
                    key: dep.key.id().clone(),
                    selector: dep.selector.clone(),
                };
                deps.iter().map(parent).collect()
            });
            let new = NewKey {
                digest: key.digest.clone(),
                output: key.output,
                parents: parents.collect(),
                preimage: key.preimage.clone(),
            };
            let Some(record) = &record else { return derived_key(&new) };
            save_record(&*self.keys, &new, record).unwrap_or_else(|error| {
                warn_store(&error);
                derived_key(&new)
            })
        });
        Event::Saved(action, ids.collect())
    }

    fn ended(&mut self, action: ActionId) -> Event {
        if let Some(running) = self.running.get(&action)
            && let (Some(node), Some(_)) = (running.node, running.kind)
            && let Some(vertex) = self.vertices.get(&node).cloned()
            && let Some(started) = *running.started.lock()
        {
            let completed = Some(self.now());
            let error = "context canceled".to_owned();
            vertex.show(&Status { started: Some(started), completed, cached: false, error });
        }
        self.take_running(action);
        Event::Cancelled(action)
    }

    /// Forgets a task that has ended; when it had started to work.
    fn take_running(&mut self, action: ActionId) -> Option<SystemTime> {
        let running = self.running.remove(&action)?;
        if let Some(kind) = running.kind {
            self.gates.entry(kind).or_default().done(action);
            self.open_gate(kind);
        }
        *running.started.lock()
    }

    fn keep(&mut self, output: D::Output) -> OutputId {
        self.last_output += 1;
        let id = OutputId(self.last_output);
        self.outputs.insert(id, output);
        id
    }

    /// The failure of a vertex, shown to those who watch.
    fn failure(&self, node: NodeId, fault: Fault<D>, started: Option<SystemTime>) -> Failure {
        let vertex = self.vertices.get(&node);
        let mut text = None;
        let failure: Failure = match fault {
            Fault::Op(error) => {
                let error = match vertex {
                    Some(vertex) => self.domain.wrap_error(error, &vertex.spec),
                    None => error,
                };
                text = Some(self.domain.vertex_text(&error));
                Arc::new(error)
            }
            Fault::Panic(text) => {
                let name = vertex.map_or("", |vertex| vertex.spec.name.as_str());
                tracing::error!(vertex = name, panic = text, "op panicked");
                Arc::new(InternalError(format!("Vertex `{name}` panicked: {text}")))
            }
        };
        if let Some(vertex) = vertex {
            let completed = Some(self.now());
            let error = text.unwrap_or_else(|| failure.to_string());
            vertex.show(&Status { started, completed, cached: false, error });
        }
        failure
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Loaded(request, nodes) => {
                for (node, spec) in nodes.into_iter().zip(self.builds.remove(&request).unwrap_or_default()) {
                    match self.vertices.get(&node) {
                        Some(vertex) => vertex.merge(&self.domain, &spec),
                        None => {
                            self.vertices.insert(node, Arc::new(ActiveVertex::new(spec)));
                        }
                    }
                }
            }
            Action::Joined(node, job) => {
                if let (Some(vertex), Some((data, bus))) = (self.vertices.get(&node), self.jobs.get(&job)) {
                    vertex.join(job, data.clone(), bus.clone());
                }
            }
            Action::Left(node, job) => {
                if let Some(vertex) = self.vertices.get(&node) {
                    vertex.leave(job);
                }
            }
            Action::Removed(node) => {
                self.vertices.remove(&node);
            }
            Action::Merged(from, to) => {
                if let (Some(from), Some(to)) = (self.vertices.get(&from.node), self.vertices.get(&to.node)) {
                    to.mirror(from.clone());
                }
            }
            Action::Hit(edge) => {
                let started = self.fetching.remove(&edge);
                if let Some(vertex) = self.vertices.get(&edge.node) {
                    let completed = Some(self.now());
                    vertex.show(&Status { started, completed, cached: true, error: String::new() });
                }
            }
            Action::Map(action, node, index) => self.map(action, node, index),
            Action::Digest(action, node, input, output, flags) => {
                self.digest(action, node, input, output, flags)
            }
            Action::Fetch(action, edge, result) => self.fetch(action, edge, result),
            Action::Execute(action, node, inputs, remaining) => self.enqueue(action, node, inputs, remaining),
            Action::Save(action, edge, keys, output) => self.save(action, edge, keys, output),
            Action::Link(query, key) => {
                for parent in query.parents {
                    let link = Link {
                        input: query.input,
                        digest: query.digest.clone(),
                        output: query.output,
                        selector: parent.selector,
                    };
                    if let Err(error) = self.keys.add_link(&parent.key, &link, &key) {
                        warn_store(&error);
                    }
                }
            }
            Action::Cancel(action) => self.cancel(action),
            Action::Respond(request, result) => self.respond(request, result),
            Action::Release(output) => {
                self.outputs.remove(&output);
            }
            Action::Ask(_) => {
                // Taken out by `turn`: it is always the last one.
            }
        }
    }

    fn answer(&self, questions: Vec<Question>) -> Vec<Answer> {
        let links: Vec<_> = questions
            .iter()
            .filter_map(|question| match question {
                Question::Links(query) => Some(query.clone()),
                Question::Key(_) => None,
            })
            .collect();
        let mut links = match self.keys.query(&links) {
            Ok(answers) => answers,
            Err(error) => {
                warn_store(&error);
                Vec::new()
            }
        }
        .into_iter();
        let answers = questions.into_iter().map(|question| match question {
            Question::Links(_) => Answer::Links(links.next().unwrap_or_default()),
            Question::Key(key) => {
                let (exists, records) = self.look_up(&key).unwrap_or_else(|error| {
                    warn_store(&error);
                    (false, Vec::new())
                });
                Answer::Key(exists, records)
            }
        });
        answers.collect()
    }

    /// Whether a key exists, and its records that can be loaded; the others are forgotten.
    fn look_up(&self, key: &crate::KeyId) -> Result<(bool, Vec<Record>), crate::StoreError> {
        let mut records = self.keys.records(key)?;
        let mut lost = Vec::new();
        records.retain(|record| {
            let exists = self.results.exists(&record.result);
            if !exists {
                lost.push(record.result.clone());
            }
            exists
        });
        for result in lost {
            self.keys.release(&result)?;
        }
        let exists = !records.is_empty() || self.keys.exists(key)?;
        Ok((exists, records))
    }

    fn context(&self, node: NodeId, cancelled: &CancellationToken) -> Option<OpContext<D>> {
        let vertex = self.vertices.get(&node)?.clone();
        Some(OpContext { vertex: vertex.spec.clone(), shared: vertex, cancelled: cancelled.clone() })
    }

    /// Runs work in a task and tells the owner what came of it.
    fn start<T: Send + 'static>(
        &mut self,
        action: ActionId,
        running: Noted,
        work: impl Future<Output = T> + Send + 'static,
        message: impl FnOnce(T) -> Message<D> + Send + 'static,
    ) {
        let guard = EndGuard { messages: self.messages.clone(), action, armed: true };
        let task = buildkit_util_appcontext::spawn(async move {
            let guard = guard;
            let result = work.await;
            guard.finish(message(result));
        });
        let (cancelled, node, kind, started) = running;
        let running =
            Running { cancelled, node, kind, started, _task: task, _domain: std::marker::PhantomData };
        self.running.insert(action, running);
    }

    fn map(&mut self, action: ActionId, node: NodeId, index: usize) {
        let cancelled = CancellationToken::new();
        let (Some(vertex), Some(cx)) = (self.vertices.get(&node).cloned(), self.context(node, &cancelled))
        else {
            return self.backlog.push(Event::Cancelled(action));
        };
        let started = vertex.spec.inputs.is_empty().then(|| self.now());
        if started.is_some() {
            vertex.show(&Status { started, ..Status::default() });
        }
        let domain = self.domain.clone();
        let work = contain::<D, _>(async move { vertex.op(&domain)?.cache_map(&cx, index).await });
        let running = (cancelled, Some(node), None, Arc::new(parking_lot::Mutex::new(started)));
        self.start(action, running, work, move |result| Message::Mapped(action, node, result));
    }

    fn digest(&mut self, action: ActionId, node: NodeId, input: usize, output: OutputId, flags: [bool; 2]) {
        let cancelled = CancellationToken::new();
        let map = self.vertices.get(&node).and_then(|vertex| vertex.first_map());
        let (Some(map), Some(cx), Some(output)) =
            (map, self.context(node, &cancelled), self.outputs.get(&output).cloned())
        else {
            return self.backlog.push(Event::Cancelled(action));
        };
        let work = contain::<D, _>(async move {
            let Some(dep) = map.deps.get(input) else { return Ok(None) };
            let [prepare, content] = flags;
            if let Some(prepare) = dep.prepare.as_ref().filter(|_| prepare) {
                prepare.prepare(&cx, &output).await?;
            }
            match dep.content.as_ref().filter(|_| content) {
                Some(content) => content.digest(&cx, &output).await,
                None => Ok(None),
            }
        });
        let running = (cancelled, Some(node), None, Arc::default());
        self.start(action, running, work, move |result| Message::Digested(action, node, result));
    }

    fn fetch(&mut self, action: ActionId, edge: EdgeId, id: ResultId) {
        let cancelled = CancellationToken::new();
        let Some(cx) = self.context(edge.node, &cancelled) else {
            return self.backlog.push(Event::Cancelled(action));
        };
        let now = self.now();
        self.fetching.insert(edge, now);
        if let Some(vertex) = self.vertices.get(&edge.node) {
            vertex.show(&Status { started: Some(now), cached: true, ..Status::default() });
        }
        let (results, result) = (self.results.clone(), id.clone());
        let work = contain::<D, _>(async move { results.load(&cx, &result).await });
        let running = (cancelled, Some(edge.node), None, Arc::default());
        self.start(action, running, work, move |result| Message::Fetched(action, id, result));
    }

    /// Puts an op that can run into the queue for its permit.
    fn enqueue(&mut self, action: ActionId, node: NodeId, inputs: Vec<OutputId>, remaining: f32) {
        let Some(vertex) = self.vertices.get(&node) else {
            return self.backlog.push(Event::Cancelled(action));
        };
        let kind = vertex.spec.kind;
        let job = vertex.oldest_job().unwrap_or(JobKey(0));
        let surplus = vertex.first_map().map_or(0.0, |map| self.durations.surplus(kind, &map.digest));
        self.gates.entry(kind).or_default().push(job, remaining + surplus, action);
        self.ready.insert(action, Ready { node, inputs, kind });
        self.open_gate(kind);
    }

    fn open_gate(&mut self, kind: &'static str) {
        while let Some(action) = self.gates.entry(kind).or_default().next() {
            match self.ready.remove(&action) {
                Some(ready) => self.execute(action, ready),
                // It was cancelled while it waited.
                None => self.gates.entry(kind).or_default().done(action),
            }
        }
    }

    fn execute(&mut self, action: ActionId, ready: Ready) {
        let Ready { node, inputs, kind } = ready;
        let cancelled = CancellationToken::new();
        let inputs: Option<Vec<D::Output>> = inputs.iter().map(|id| self.outputs.get(id).cloned()).collect();
        let (Some(vertex), Some(cx), Some(inputs)) =
            (self.vertices.get(&node).cloned(), self.context(node, &cancelled), inputs)
        else {
            self.gates.entry(kind).or_default().done(action);
            return self.backlog.push(Event::Cancelled(action));
        };
        let context = Arc::new(cx);
        let (owner, domain, cx) = (vertex.clone(), self.domain.clone(), context.clone());
        let mut acquire: Boxed<_> = Box::pin(contain::<D, _>(async move {
            let op = owner.op(&domain)?;
            let permit = op.acquire(&cx).await?;
            Ok((op, permit))
        }));
        // Most ops need not wait: then the next one asks without a round trip.
        let early = match acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => {
                self.gates.entry(kind).or_default().permitted(action);
                Some(permit)
            }
            Poll::Pending => None,
        };
        let started = Arc::new(parking_lot::Mutex::new(None));
        let (clock, start, messages) = (self.options.clock.clone(), started.clone(), self.messages.clone());
        let work = async move {
            let permit = match early {
                Some(permit) => permit,
                None => {
                    let permit = acquire.await;
                    send(&messages, Message::Permitted(action, kind));
                    permit
                }
            };
            let (op, _permit) = match permit {
                Ok(permitted) => permitted,
                Err(fault) => return (Err(fault), 0.0),
            };
            let begin = clock();
            *start.lock() = Some(begin);
            vertex.show(&Status { started: Some(begin), ..Status::default() });
            let result = contain::<D, _>(async move { op.exec(&context, inputs).await }).await;
            let seconds = clock().duration_since(begin).map_or(0.0, |time| time.as_secs_f32());
            (result, seconds)
        };
        let running = (cancelled, Some(node), Some(kind), started);
        self.start(action, running, work, move |(result, seconds)| {
            Message::Executed(action, node, result, seconds)
        });
    }

    /// Saves a result. Once begun it goes on whoever leaves, so that no result is kept without a
    /// record of it.
    fn save(&mut self, action: ActionId, edge: EdgeId, keys: Vec<SaveKey>, output: OutputId) {
        self.saving.insert(action, keys);
        let Some(output) = self.outputs.get(&output).cloned() else {
            let fault = Fault::Panic(format!("result of {edge:?} is gone"));
            let event = self.saved(action, Err(fault), SystemTime::UNIX_EPOCH);
            return self.backlog.push(event);
        };
        let (results, now) = (self.results.clone(), self.now());
        let mut work: Boxed<_> = Box::pin(contain::<D, _>(async move { results.save(&output, now).await }));
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => {
                let event = self.saved(action, result, now);
                self.backlog.push(event);
            }
            Poll::Pending => {
                let messages = self.messages.clone();
                buildkit_util_appcontext::detach("save a result", async move {
                    let result = work.await;
                    send(&messages, Message::Saved(action, result, now));
                });
            }
        }
    }

    fn cancel(&mut self, action: ActionId) {
        if self.ready.remove(&action).is_some() {
            return self.backlog.push(Event::Cancelled(action));
        }
        if let Some(running) = self.running.get(&action) {
            running.cancelled.cancel();
            running._task.abort();
        }
    }

    fn respond(&mut self, request: RequestId, result: Result<Finished, Failure>) {
        let Some(respond) = self.waiting.remove(&request) else { return };
        let result = match result {
            Ok(finished) => match self.outputs.get(&finished.output) {
                Some(output) => Ok((output.clone(), finished.keys)),
                None => Err(Error::Internal("Result of a finished vertex is gone".to_owned())),
            },
            Err(failure) => {
                let error: &(dyn std::error::Error + 'static) = &*failure;
                Err(match error.downcast_ref::<D::Error>() {
                    Some(error) => Error::Op(error.clone()),
                    None => Error::Internal(failure.to_string()),
                })
            }
        };
        // Who asked may have gone meanwhile.
        let _ = respond.send(result);
    }
}

impl<D: Domain> Fault<D> {
    fn text(&self) -> String {
        match self {
            Self::Op(error) => error.to_string(),
            Self::Panic(text) => format!("panic: {text}"),
        }
    }
}

fn warn_store(error: &crate::StoreError) {
    let source: &dyn std::error::Error = &*error.source;
    tracing::warn!(%error, source, "cache key store failed, taken for a miss");
}
