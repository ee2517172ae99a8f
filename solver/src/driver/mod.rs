//! The task that owns the graph: turns its actions into tasks, and what they give into events.

mod fault;
mod keys;
mod message;
mod run;
mod task;
mod work;

use std::sync::Arc;
use std::time::SystemTime;

use buildkit_util_progress::Bus;
use foldhash::HashMap;
use tokio::sync::mpsc;

use self::message::Respond;
pub(crate) use self::message::{Loaded, Message, send};
use self::run::Ready;
use self::task::Running;
use crate::graph::{
    Action, ActionId, Event, Failure, Finished, Graph, JobKey, NodeId, OutputId, RequestId, SaveKey,
};
use crate::progress::{ActiveVertex, Status};
use crate::schedule::{Durations, Gate};
use crate::{CacheKeyStore, Domain, Error, ResultStore, SolverOptions, VertexSpec};

/// Messages that the owner takes in at once.
const BATCH: usize = 4096;

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
    running: HashMap<ActionId, Running>,
    ready: HashMap<ActionId, Ready>,
    saving: HashMap<ActionId, Vec<SaveKey>>,
    /// When the last load for a node began.
    fetching: HashMap<NodeId, SystemTime>,
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
            vertices: HashMap::default(),
            jobs: HashMap::default(),
            builds: HashMap::default(),
            waiting: HashMap::default(),
            outputs: HashMap::default(),
            last_output: 0,
            running: HashMap::default(),
            ready: HashMap::default(),
            saving: HashMap::default(),
            fetching: HashMap::default(),
            gates: HashMap::default(),
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

    fn keep(&mut self, output: D::Output) -> OutputId {
        self.last_output += 1;
        let id = OutputId(self.last_output);
        self.outputs.insert(id, output);
        id
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
                self.fetching.remove(&node);
            }
            Action::Merged(from, to) => {
                if let (Some(from), Some(to)) = (self.vertices.get(&from.node), self.vertices.get(&to.node)) {
                    to.mirror(from.clone());
                }
            }
            Action::Hit(edge) => {
                let started = self.fetching.get(&edge.node).copied();
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
            Action::Link(query, key) => self.link(query, &key),
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
