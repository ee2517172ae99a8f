//! The rules that hold between steps, for tests.

use foldhash::{HashMap, HashSet};
use petgraph::Direction;
use petgraph::visit::EdgeRef;

use super::node::{Dep, EdgeNode, EdgeState, Mode, Need, Work};
use super::types::{EdgeId, Level, NodeId};
use super::{Graph, Hold};
use crate::{OutputIndex, VertexId};

/// What is wanted of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Nothing,
    /// The keys that follow from definitions.
    Keys,
    /// Also the keys that need the content of its inputs.
    AllKeys,
    /// The result.
    Result,
}

/// What an edge is after.
#[derive(Clone, Debug)]
pub struct Effort {
    /// The edge.
    pub output: OutputIndex,
    /// What its consumers want of it.
    pub wanted: Wanted,
    /// It gets ready to run.
    pub runs: bool,
    /// Inputs whose results it wants.
    pub results: Vec<usize>,
    /// Inputs whose preparation or content digest it wants.
    pub works: Vec<usize>,
}

impl Graph {
    /// What the edges of a node are after, for oracles of the order of effort.
    pub fn efforts(&self, id: NodeId) -> Vec<Effort> {
        let edges = self.node(id).into_iter().flat_map(|node| &node.edges);
        let inputs = |edge: &EdgeNode, holds: fn(&Dep) -> bool| {
            edge.deps.iter().enumerate().filter(|(_, dep)| holds(dep)).map(|(at, _)| at).collect()
        };
        edges
            .map(|edge| Effort {
                output: edge.output,
                wanted: match edge.wanted() {
                    Level::Nothing => Wanted::Nothing,
                    Level::Fast => Wanted::Keys,
                    Level::Slow => Wanted::AllKeys,
                    Level::Complete => Wanted::Result,
                },
                runs: edge.mode == Mode::Run || edge.need == Need::Exec,
                results: inputs(edge, |dep| dep.want == Level::Complete),
                works: inputs(edge, |dep| dep.need),
            })
            .collect()
    }

    /// Number of live nodes.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vertex of a live node.
    pub fn vertex_of(&self, id: NodeId) -> Option<&VertexId> {
        self.node(id).map(|node| &node.vertex)
    }

    /// Whether nothing is remembered of past jobs.
    pub fn is_clean(&self) -> bool {
        self.is_empty()
            && self.actives.is_empty()
            && self.jobs.is_empty()
            && self.requests.is_empty()
            && self.work.is_empty()
            && self.index.is_empty()
    }

    /// Checks the rules of the contract ("Invariants"); call it when no question is open.
    ///
    /// # Errors
    /// What is broken.
    pub fn check(&self) -> Result<(), String> {
        let mut wants: HashMap<EdgeId, [u32; 4]> = HashMap::default();
        let mut known = 0;
        for index in self.nodes.node_indices() {
            let Some(node) = self.nodes.node_weight(index) else { continue };
            let id = NodeId { index: index.index() as u32, generation: node.generation };
            let held = self.nodes.neighbors_directed(index, Direction::Incoming).next().is_some();
            let working = node.outstanding().next().is_some();
            if node.jobs.is_empty() && !held && !working {
                return Err(format!("{id:?} has no job, no consumer and no work"));
            }
            for hold in self.nodes.edges_directed(index, Direction::Outgoing) {
                let below = self.nodes.node_weight(hold.target()).map_or(u32::MAX, |node| node.rank);
                if below >= node.rank {
                    return Err(format!("{id:?} of rank {} holds one of rank {below}", node.rank));
                }
            }
            for job in &node.jobs {
                if !self.jobs.get(job).is_some_and(|nodes| nodes.contains(&id)) {
                    return Err(format!("{id:?} has a job that does not know it"));
                }
                for below in self.held_by(id) {
                    if !self.node(below).is_some_and(|node| node.jobs.contains(job)) {
                        return Err(format!("{id:?} has a job that {below:?} below it has not"));
                    }
                }
            }
            known += node.outstanding().count();
            for action in node.outstanding() {
                if !self.work.contains_key(&action) {
                    return Err(format!("{id:?} waits for an action that nobody knows"));
                }
            }
            self.check_work(id)?;
            for edge in &node.edges {
                let edge_id = EdgeId { node: id, output: edge.output };
                self.check_edge(edge_id)?;
                for dep in &edge.deps {
                    if dep.want > Level::Nothing {
                        let target = self.find(dep.target);
                        wants.entry(target).or_default()[dep.want as usize] += 1;
                    }
                }
            }
        }
        if known != self.work.len() {
            return Err(format!("{} actions are outstanding but nodes know {known}", self.work.len()));
        }
        for (request, (_, edge)) in &self.requests {
            let target = self.find(*edge);
            wants.entry(target).or_default()[Level::Complete as usize] += 1;
            if !self.edge(target).is_some_and(|edge| edge.requests.contains(request)) {
                return Err(format!("{request:?} is not known to its edge"));
            }
        }
        self.check_wants(&wants)
    }

    fn check_wants(&self, wants: &HashMap<EdgeId, [u32; 4]>) -> Result<(), String> {
        for index in self.nodes.node_indices() {
            let Some(node) = self.nodes.node_weight(index) else { continue };
            for edge in &node.edges {
                let id = EdgeId {
                    node: NodeId { index: index.index() as u32, generation: node.generation },
                    output: edge.output,
                };
                let expect = wants.get(&id).copied().unwrap_or_default();
                if edge.wants != expect {
                    return Err(format!("{id:?} counts wishes {:?}, there are {expect:?}", edge.wants));
                }
            }
        }
        match wants.keys().find(|id| self.edge(**id).is_none()) {
            Some(id) => Err(format!("{id:?} is wanted but is gone")),
            None => Ok(()),
        }
    }

    /// No work runs that nobody wants, and none is missing.
    fn check_work(&self, id: NodeId) -> Result<(), String> {
        let Some(node) = self.node(id) else { return Ok(()) };
        let need = |need| node.edges.iter().any(|edge| edge.need == need);
        let searching =
            node.edges.iter().any(|e| e.need == Need::Exec && matches!(e.state, EdgeState::Searching));
        if matches!(node.mapping, Work::Running(_))
            != (need(Need::Map) && !matches!(node.mapping, Work::Cancelling(_)))
        {
            return Err(format!("{id:?}: wish and work differ for the cache map"));
        }
        if matches!(node.exec, Work::Running(_)) && !searching {
            return Err(format!("{id:?} runs for nobody"));
        }
        if searching && matches!(node.exec, Work::Idle) {
            return Err(format!("{id:?} should run"));
        }
        for (input, work) in node.contents.iter().enumerate() {
            let wanted = node.edges.iter().any(|edge| edge.deps.get(input).is_some_and(|dep| dep.need));
            if matches!(work, Work::Running(_)) && !wanted {
                return Err(format!("{id:?} digests input {input} for nobody"));
            }
        }
        Ok(())
    }

    fn check_edge(&self, id: EdgeId) -> Result<(), String> {
        let Some(node) = self.node(id.node) else { return Ok(()) };
        let Some(edge) = node.edge(id.output) else { return Ok(()) };
        if edge.queued.iter().any(|queued| *queued) {
            return Err(format!("{id:?} is still queued"));
        }
        if let EdgeState::Merged(next) = edge.state {
            let mut seen = HashSet::from_iter([id]);
            let mut at = next;
            loop {
                if !seen.insert(at) {
                    return Err(format!("{id:?} merged in a circle"));
                }
                match self.edge(at) {
                    None => return Err(format!("{id:?} merged into an edge that is gone")),
                    Some(edge) => match edge.state {
                        EdgeState::Merged(next) => at = next,
                        _ => break,
                    },
                }
            }
            let from = petgraph::graph::NodeIndex::new(id.node.index as usize);
            let to = petgraph::graph::NodeIndex::new(next.node.index as usize);
            if from != to && !self.nodes.edges_connecting(from, to).any(|hold| *hold.weight() == Hold::Merged)
            {
                return Err(format!("{id:?} does not hold the edge it merged into"));
            }
        }
        if !self.waits(id) {
            return Ok(());
        }
        let own = match edge.need {
            Need::Map => matches!(node.mapping, Work::Running(_) | Work::Cancelling(_)),
            Need::Exec => matches!(node.exec, Work::Running(_) | Work::Cancelling(_)),
            Need::Load | Need::Nothing => {
                matches!(
                    edge.state,
                    EdgeState::Loading(..) | EdgeState::StopLoading(..) | EdgeState::Saving(..)
                )
            }
        };
        let inputs = edge.deps.iter().enumerate().any(|(input, dep)| {
            let working =
                dep.need && matches!(node.contents.get(input), Some(Work::Running(_) | Work::Cancelling(_)));
            working || self.waits(self.find(dep.target)) && dep.want > Level::Nothing
        });
        if own || inputs { Ok(()) } else { Err(format!("{id:?} is waited for but nothing is under way")) }
    }
}
