//! The scheduler's state as a pure machine: [`Graph::step`] takes what happened and says what shall
//! be done. No clock, no lock, no I/O; only ids and digests.
//!
//! A step handles all its events, then settles: news travel from inputs to consumers (`update`),
//! questions about keys go to the store and come back before anything else happens, edges with a key
//! in common merge (`merge`), wishes travel from consumers to inputs (`plan`). Work is started and
//! stopped only when all that has come to rest, so that nothing is started that news of the same
//! step made needless.

mod check;
mod events;
mod index;
mod load;
mod merge;
mod node;
mod plan;
mod start;
mod types;
mod update;

use std::collections::VecDeque;

use foldhash::HashMap;
use petgraph::graph::NodeIndex;
use petgraph::stable_graph::StableDiGraph;

#[cfg(feature = "test-util")]
pub use check::{Effort, Wanted};
use index::EdgeIndex;
use node::{EdgeNode, Node};
pub use types::{
    Action, ActionId, Answer, DepInfo, EdgeId, Event, Failure, Finished, JobKey, LoadVertex, MapInfo, NodeId,
    OutputId, Question, RequestId, SaveKey,
};

use crate::{OutputIndex, VertexId};

/// Why a node keeps another one alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is an input.
    Input,
    /// One of its edges took over one of ours.
    Merged,
}

/// What outstanding work is for.
#[derive(Clone, Copy, Debug)]
enum Target {
    Map(NodeId),
    Digest(NodeId, usize),
    Execute(NodeId),
    Fetch(EdgeId),
    Save(EdgeId),
}

/// What an outstanding question is about.
#[derive(Clone, Debug)]
enum Asked {
    /// Keys that keys of an input lead to; the flag is for its content key.
    Links(EdgeId, u32, bool),
    /// The key of this map of an edge without inputs.
    Root(EdgeId, usize),
    /// Records of a key that all inputs lead to.
    Records(EdgeId, crate::KeyId),
}

impl Asked {
    fn edge(&self) -> EdgeId {
        match self {
            Self::Links(edge, ..) | Self::Root(edge, _) | Self::Records(edge, _) => *edge,
        }
    }
}

/// The active vertices of all jobs.
#[derive(Default)]
pub struct Graph {
    nodes: StableDiGraph<Node, Hold>,
    /// Nodes by vertex; the flag is for nodes that ignore the cache beside one that does not.
    actives: HashMap<(VertexId, bool), NodeId>,
    jobs: HashMap<JobKey, Vec<NodeId>>,
    requests: HashMap<RequestId, (JobKey, EdgeId)>,
    work: HashMap<ActionId, Target>,
    index: EdgeIndex,
    counter: u64,
    updates: VecDeque<EdgeId>,
    twins: VecDeque<EdgeId>,
    plans: VecDeque<EdgeId>,
    touched: Vec<NodeId>,
    leaving: Vec<NodeId>,
    asked: Vec<Asked>,
    questions: Vec<(NodeId, Question)>,
    out: Vec<Action>,
}

/// The queues of edges, as places in [`EdgeNode::queued`].
const UPDATE: usize = 0;
const TWIN: usize = 1;
const PLAN: usize = 2;

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Handles events. If the answer ends with [`Action::Ask`], the next step must begin with
    /// [`Event::Answered`].
    pub fn step(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Action> {
        for event in events {
            self.handle(event);
        }
        self.settle();
        std::mem::take(&mut self.out)
    }

    fn settle(&mut self) {
        loop {
            if let Some(edge) = self.updates.pop_front() {
                self.unqueue(edge, UPDATE);
                self.update(edge);
            } else if !self.questions.is_empty() {
                self.out.push(Action::Ask(std::mem::take(&mut self.questions)));
                return;
            } else if let Some(edge) = self.twins.pop_front() {
                self.unqueue(edge, TWIN);
                self.find_twin(edge);
            } else if let Some(edge) = self.plans.pop_front() {
                self.unqueue(edge, PLAN);
                self.plan(edge);
            } else if let Some(node) = self.touched.pop() {
                self.start_and_stop(node);
            } else if let Some(node) = self.leaving.pop() {
                self.remove_unused(node);
            } else {
                return;
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        let node = self.nodes.node_weight(NodeIndex::new(id.index as usize))?;
        (node.generation == id.generation).then_some(node)
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        let node = self.nodes.node_weight_mut(NodeIndex::new(id.index as usize))?;
        (node.generation == id.generation).then_some(node)
    }

    fn edge(&self, id: EdgeId) -> Option<&EdgeNode> {
        self.node(id.node)?.edge(id.output)
    }

    fn edge_mut(&mut self, id: EdgeId) -> Option<&mut EdgeNode> {
        self.node_mut(id.node)?.edge_mut(id.output)
    }

    /// Makes the edge if its node lives and has it not yet.
    fn ensure_edge(&mut self, id: EdgeId) {
        let Some(node) = self.node_mut(id.node) else { return };
        if let Err(at) = node.edges.binary_search_by_key(&id.output, |edge| edge.output) {
            let edge = Box::new(EdgeNode::new(id.output, &node.inputs));
            node.edges.insert(at, edge);
            self.all_news(id);
        }
    }

    /// Lets an edge look at all its inputs.
    fn all_news(&mut self, id: EdgeId) {
        if let Some(edge) = self.edge_mut(id) {
            edge.news = (0..edge.deps.len() as u32).collect();
        }
        self.queue(id, UPDATE);
    }

    /// The edge that took this one over, or itself.
    fn find(&self, mut id: EdgeId) -> EdgeId {
        while let Some(EdgeNode { state: node::EdgeState::Merged(next), .. }) = self.edge(id) {
            id = *next;
        }
        id
    }

    fn queue(&mut self, id: EdgeId, queue: usize) {
        let Some(edge) = self.edge_mut(id) else { return };
        if !std::mem::replace(&mut edge.queued[queue], true) {
            match queue {
                UPDATE => self.updates.push_back(id),
                TWIN => self.twins.push_back(id),
                _ => self.plans.push_back(id),
            }
        }
    }

    fn unqueue(&mut self, id: EdgeId, queue: usize) {
        if let Some(edge) = self.edge_mut(id) {
            edge.queued[queue] = false;
        }
    }

    /// Puts all edges of a node into a queue.
    fn queue_all(&mut self, id: NodeId, queue: usize) {
        let outputs: smallvec::SmallVec<[OutputIndex; 4]> =
            self.node(id).into_iter().flat_map(|node| node.edges.iter().map(|edge| edge.output)).collect();
        for output in outputs {
            self.queue(EdgeId { node: id, output }, queue);
        }
    }

    /// Lets a node start and stop its work when all has come to rest.
    fn touch(&mut self, id: NodeId) {
        if let Some(node) = self.node_mut(id)
            && !std::mem::replace(&mut node.listed, true)
        {
            self.touched.push(id);
        }
    }

    /// Lets an edge look at one of its inputs.
    fn news_of(&mut self, id: EdgeId, input: u32) {
        if let Some(edge) = self.edge_mut(id)
            && edge.news.last() != Some(&input)
        {
            edge.news.push(input);
        }
        self.queue(id, UPDATE);
    }

    /// Lets all edges of a node look at one input, or at all.
    fn news_of_input(&mut self, id: NodeId, input: Option<usize>) {
        let Some(node) = self.node_mut(id) else { return };
        let inputs = node.inputs.len() as u32;
        for edge in &mut node.edges {
            match input {
                Some(input) => edge.news.push(input as u32),
                None => edge.news.extend(0..inputs),
            }
        }
        node.steer.extend(input.map(|input| input as u32));
        self.queue_all(id, UPDATE);
    }

    /// Tells the consumers of an edge that it changed.
    fn notify(&mut self, id: EdgeId) {
        let Some(edge) = self.edge_mut(id) else { return };
        let consumers = std::mem::take(&mut edge.consumers);
        let mut living = smallvec::SmallVec::with_capacity(consumers.len());
        for (consumer, input) in consumers {
            if self.edge(consumer).is_some_and(|edge| !edge.state.is_final()) {
                self.news_of(consumer, input);
                living.push((consumer, input));
            }
        }
        if let Some(edge) = self.edge_mut(id) {
            // Nobody was added meanwhile: queueing adds no consumers.
            edge.consumers = living;
        }
    }
}
