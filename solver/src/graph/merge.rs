//! Edges that turn out to have a key in common become one.
//!
//! The one that stays takes over consumers and requests; the other points to it and keeps its node
//! alive. Ranks order the nodes so that what a node holds (inputs, nodes that took over one of its
//! edges) has a lower one; that makes most checks for cycles free.

use foldhash::HashSet;
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use smallvec::SmallVec;

use super::index::Way;
use super::node::{EdgeState, Work};
use super::types::{Action, EdgeId, Level, NodeId};
use super::{Graph, Hold, PLAN, TWIN};
use crate::{ExportableKey, KeyDep, KeyNode};

/// Nodes that a search for a cycle visits at most; beyond that the edges stay apart.
const SEARCH_LIMIT: usize = 10_000;

impl Graph {
    /// Enters an edge into the index and merges it with an older one that has a key in common.
    pub(super) fn find_twin(&mut self, id: EdgeId) {
        let Some(inputs) = self.ways(id) else { return };
        let now = self.next();
        if let Some(edge) = self.edge_mut(id)
            && edge.age == 0
        {
            edge.age = now;
        }
        let mut twins = self.index.common(&inputs);
        self.index.add(id, inputs.into_iter().flatten());
        twins.retain(|twin| *twin != id);
        twins.sort_by_key(|twin| self.edge(*twin).map(|edge| edge.age));
        for twin in twins {
            if self.try_merge(id, twin) && self.find(id) != id {
                return;
            }
        }
    }

    /// The ways to the keys of an edge, by input; none as long as an input has no key.
    fn ways(&self, id: EdgeId) -> Option<Vec<Vec<Way>>> {
        let node = self.node(id.node)?;
        let edge = node.edge(id.output)?;
        if edge.counts.keyless > 0 || !matches!(edge.state, EdgeState::Searching | EdgeState::Loading(..)) {
            return None;
        }
        let way = |map: &crate::graph::MapInfo, parent, input: usize| Way {
            parent,
            input: input as u32,
            digest: map.digest.clone(),
            output: id.output,
        };
        if node.inputs.is_empty() {
            let ways: Vec<Way> = node.maps.iter().map(|map| way(map, None, 0)).collect();
            return (!ways.is_empty()).then(|| vec![ways]);
        }
        let map = node.maps.first()?;
        let inputs: Vec<Vec<Way>> = self
            .all_dep_keys(id)
            .into_iter()
            .enumerate()
            .map(|(input, deps)| {
                deps.into_iter()
                    .map(|dep| way(map, Some((dep.key.id().clone(), dep.selector)), input))
                    .collect()
            })
            .collect();
        inputs.iter().all(|ways| !ways.is_empty()).then_some(inputs)
    }

    /// Merges two edges if the rules allow; whether it did.
    fn try_merge(&mut self, first: EdgeId, second: EdgeId) -> bool {
        let age = |id| self.edge(id).map(|edge| edge.age);
        let (mut stays, mut goes) = if age(first) <= age(second) { (first, second) } else { (second, first) };
        // What runs already stays, whatever its age; so does what took over a sibling.
        if self.holds_by_merge(stays.node, goes.node) || (!self.is_idle(goes) && self.is_idle(stays)) {
            std::mem::swap(&mut stays, &mut goes);
        }
        let (Some(staying), Some(going)) = (self.node(stays.node), self.node(goes.node)) else {
            return false;
        };
        if going.ignore && !staying.ignore {
            return false;
        }
        let Some(target) = staying.edge(stays.output) else { return false };
        let alive = !matches!(target.state, EdgeState::Failed(_) | EdgeState::Merged(_));
        if !alive || !self.is_idle(goes) || self.holds(stays.node, goes.node) {
            return false;
        }
        if self.holds(goes.node, stays.node) && !self.holds_by_merge(goes.node, stays.node) {
            return false;
        }
        self.merge(stays, goes);
        true
    }

    /// Whether an edge has not come to a result and its node does not run.
    fn is_idle(&self, id: EdgeId) -> bool {
        self.node(id.node).is_some_and(|node| {
            let searching =
                node.edge(id.output).is_some_and(|edge| matches!(edge.state, EdgeState::Searching));
            searching && matches!(node.exec, Work::Idle)
        })
    }

    /// Whether a node holds another one, at any distance.
    fn holds(&self, from: NodeId, to: NodeId) -> bool {
        self.reaches(from, to, |_| true)
    }

    /// As [`holds`](Self::holds), by mergers only.
    fn holds_by_merge(&self, from: NodeId, to: NodeId) -> bool {
        self.reaches(from, to, |hold| hold == Hold::Merged)
    }

    fn reaches(&self, from: NodeId, to: NodeId, counts: impl Fn(Hold) -> bool) -> bool {
        let Some(lowest) = self.node(to).map(|node| node.rank) else { return false };
        let (start, goal) = (NodeIndex::new(from.index as usize), NodeIndex::new(to.index as usize));
        let mut seen = HashSet::default();
        let mut pending = vec![start];
        while let Some(index) = pending.pop() {
            if index == goal {
                return true;
            }
            if self.nodes.node_weight(index).is_none_or(|node| node.rank <= lowest) || !seen.insert(index) {
                continue;
            }
            if seen.len() > SEARCH_LIMIT {
                return true;
            }
            for hold in self.nodes.edges_directed(index, Direction::Outgoing) {
                if counts(*hold.weight()) {
                    pending.push(petgraph::visit::EdgeRef::target(&hold));
                }
            }
        }
        false
    }

    fn merge(&mut self, stays: EdgeId, goes: EdgeId) {
        let parents = self.all_dep_keys(goes);
        self.drop_wants(goes);
        let ways = self.index.forget(goes);
        self.index.add(stays, ways);

        let Some(source) = self.edge_mut(goes) else { return };
        source.state = EdgeState::Merged(stays);
        source.keys = smallvec::SmallVec::new();
        source.records = Vec::new();
        let consumers = std::mem::take(&mut source.consumers);
        let requests = std::mem::take(&mut source.requests);
        let wants = std::mem::take(&mut source.wants);
        let Some(target) = self.edge_mut(stays) else { return };
        target.consumers.extend(consumers);
        target.requests.extend(requests);
        for (count, more) in target.wants.iter_mut().zip(wants) {
            *count += more;
        }
        self.keep_parents(stays, parents);

        if stays.node != goes.node {
            let (from, to) =
                (NodeIndex::new(goes.node.index as usize), NodeIndex::new(stays.node.index as usize));
            let linked = self.nodes.edges_connecting(from, to).any(|hold| *hold.weight() == Hold::Merged);
            if !linked {
                self.nodes.add_edge(from, to, Hold::Merged);
            }
            let above = self.node(stays.node).map_or(0, |node| node.rank.saturating_add(1));
            self.raise_rank(goes.node, above);
            let source = self.node(goes.node);
            let remaining = source.map_or(0.0, |node| node.remaining);
            let jobs: SmallVec<[_; 4]> =
                source.into_iter().flat_map(|node| node.jobs.iter().copied()).collect();
            if let Some(node) = self.node_mut(stays.node) {
                node.remaining = node.remaining.max(remaining);
            }
            for job in jobs {
                self.add_job(stays.node, job);
            }
        }
        self.out.push(Action::Merged(goes, stays));
        self.notify(stays);
        self.all_news(stays);
        self.queue(stays, TWIN);
        self.queue(stays, PLAN);
        self.touch(goes.node);
    }

    /// Keeps the parents of an edge that went, so that both chains lead to the keys.
    fn keep_parents(&mut self, id: EdgeId, parents: Vec<Vec<KeyDep>>) {
        let Some(edge) = self.edge_mut(id) else { return };
        for (input, deps) in (0u32..).zip(parents) {
            for dep in deps {
                let known = |old: &(u32, KeyDep)| {
                    old.0 == input && old.1.key.id() == dep.key.id() && old.1.selector == dep.selector
                };
                if !edge.extra.iter().any(known) {
                    edge.extra.push((input, dep));
                }
            }
        }
        let extra = std::mem::take(&mut edge.extra);
        let renew = |key: &mut ExportableKey| {
            let mut deps = key.deps.clone();
            super::update::add_extra(&mut deps, &extra);
            *key = ExportableKey::new(KeyNode {
                id: key.id.clone(),
                digest: key.digest.clone(),
                output: key.output,
                vertex: key.vertex.clone(),
                export: key.export,
                deps,
            });
        };
        if !extra.is_empty() {
            edge.keys.iter_mut().for_each(renew);
            if let EdgeState::Done { keys, .. } = &mut edge.state {
                keys.iter_mut().for_each(renew);
            }
        }
        edge.extra = extra;
    }

    /// Lifts a node to a rank, and all that hold it above it.
    fn raise_rank(&mut self, id: NodeId, rank: u32) {
        let mut pending = vec![(id, rank)];
        while let Some((id, rank)) = pending.pop() {
            let Some(node) = self.node_mut(id) else { continue };
            if node.rank >= rank {
                continue;
            }
            node.rank = rank;
            let above = self.neighbors(id, Direction::Incoming);
            pending.extend(above.into_iter().map(|holder| (holder, rank.saturating_add(1))));
        }
    }

    /// Whether an edge waits for something that it should get.
    pub(super) fn waits(&self, id: EdgeId) -> bool {
        let Some(edge) = self.edge(id) else { return false };
        let wanted = edge.wanted();
        match edge.state {
            EdgeState::Done { .. } | EdgeState::Failed(_) | EdgeState::Merged(_) => false,
            _ => wanted == Level::Complete || wanted > edge.level,
        }
    }
}
