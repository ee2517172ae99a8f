//! Jobs come with vertices and requests, and go.

use petgraph::Direction;
use petgraph::graph::NodeIndex;
use smallvec::SmallVec;

use super::events::internal;
use super::node::{EdgeState, Node, Work};
use super::types::{Action, EdgeId, JobKey, Level, LoadVertex, NodeId, RequestId};
use super::{Graph, Hold, PLAN};
use crate::OutputIndex;

impl Graph {
    pub(super) fn build(
        &mut self,
        job: JobKey,
        request: RequestId,
        vertices: &[LoadVertex],
        target: (u32, OutputIndex),
    ) {
        let mut ids: Vec<NodeId> = Vec::with_capacity(vertices.len());
        for vertex in vertices {
            let inputs: Option<Vec<EdgeId>> = vertex
                .inputs
                .iter()
                .map(|(place, output)| Some(EdgeId { node: *ids.get(*place as usize)?, output: *output }))
                .collect();
            let Some(inputs) = inputs else {
                self.out.push(Action::Respond(request, Err(internal("Input of a vertex stands after it"))));
                return;
            };
            ids.push(self.load(vertex, inputs));
        }
        self.set_remaining(vertices, &ids);
        self.out.push(Action::Loaded(request, ids.clone()));
        self.jobs.entry(job).or_default();
        for id in &ids {
            self.add_job(*id, job);
        }
        let Some(node) = ids.get(target.0 as usize) else {
            self.out.push(Action::Respond(request, Err(internal("Wanted vertex is not in the graph"))));
            return;
        };
        let wanted = EdgeId { node: *node, output: target.1 };
        self.ensure_edge(wanted);
        self.requests.insert(request, (job, wanted));
        let wanted = self.find(wanted);
        if let Some(edge) = self.edge_mut(wanted) {
            edge.requests.push(request);
            edge.wants[Level::Complete as usize] += 1;
        }
        self.queue(wanted, PLAN);
    }

    /// The node of a vertex: an active one when there is one that it may join.
    fn load(&mut self, vertex: &LoadVertex, inputs: Vec<EdgeId>) -> NodeId {
        let beside = (vertex.id.clone(), true);
        if let Some(id) = self.actives.get(&beside).copied() {
            self.revive(id);
            return id;
        }
        let mut key = (vertex.id.clone(), false);
        if let Some(id) = self.actives.get(&key).copied() {
            let active_ignores = self.node(id).is_some_and(|node| node.ignore);
            if active_ignores || !vertex.ignore_cache {
                self.revive(id);
                return id;
            }
            key = beside;
        }
        let rank = inputs.iter().filter_map(|input| self.node(input.node)).map(|node| node.rank + 1).max();
        let generation = self.next() as u32;
        let node = Node {
            generation,
            vertex: vertex.id.clone(),
            ignore: vertex.ignore_cache,
            export: vertex.export,
            rank: rank.unwrap_or(0),
            remaining: 0.0,
            contents: inputs.iter().map(|_| Work::Idle).collect(),
            inputs: inputs.into_boxed_slice(),
            jobs: SmallVec::new(),
            maps: SmallVec::new(),
            mapping: Work::Idle,
            exec: Work::Idle,
            edges: SmallVec::new(),
            listed: false,
            steer: Vec::new(),
        };
        let mut held: SmallVec<[NodeId; 4]> = node.inputs.iter().map(|input| input.node).collect();
        held.sort_unstable();
        held.dedup();
        let index = self.nodes.add_node(node);
        for input in held {
            self.nodes.add_edge(index, NodeIndex::new(input.index as usize), Hold::Input);
        }
        let id = NodeId { index: index.index() as u32, generation };
        self.actives.insert(key, id);
        id
    }

    /// Gives a node that only waits for the end of its cancelled work a fresh start: the failures of
    /// those who left are not those of who comes.
    fn revive(&mut self, id: NodeId) {
        let Some(node) = self.node_mut(id) else { return };
        if !node.jobs.is_empty() {
            return;
        }
        if matches!(node.mapping, Work::Failed(_)) {
            node.mapping = Work::Idle;
        }
        if matches!(node.exec, Work::Failed(_)) {
            node.exec = Work::Idle;
        }
        for slot in &mut node.contents {
            if matches!(slot, Work::Failed(_)) {
                *slot = Work::Idle;
            }
        }
        for edge in &mut node.edges {
            if matches!(edge.state, EdgeState::Failed(_)) {
                edge.state = EdgeState::Searching;
            }
        }
        self.news_of_input(id, None);
    }

    /// The longest way from each vertex to the end, in expected seconds.
    fn set_remaining(&mut self, vertices: &[LoadVertex], ids: &[NodeId]) {
        let mut after = vec![0.0_f32; vertices.len()];
        for (place, vertex) in vertices.iter().enumerate().rev() {
            let Some(beyond) = after.get(place).copied() else { continue };
            let total = beyond + vertex.cost;
            for (input, _) in &vertex.inputs {
                if let Some(slot) = after.get_mut(*input as usize) {
                    *slot = slot.max(total);
                }
            }
            if let Some(node) = ids.get(place).and_then(|id| self.node_mut(*id)) {
                node.remaining = node.remaining.max(total);
            }
        }
    }

    /// Lets a job want a node and everything that the node holds.
    pub(super) fn add_job(&mut self, id: NodeId, job: JobKey) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let Some(node) = self.node_mut(id) else { continue };
            if node.jobs.contains(&job) {
                continue;
            }
            node.jobs.push(job);
            self.jobs.entry(job).or_default().push(id);
            self.out.push(Action::Joined(id, job));
            pending.extend(self.held_by(id));
        }
    }

    /// The nodes that a node keeps alive.
    pub(super) fn held_by(&self, id: NodeId) -> SmallVec<[NodeId; 4]> {
        self.neighbors(id, Direction::Outgoing)
    }

    pub(super) fn neighbors(&self, id: NodeId, direction: Direction) -> SmallVec<[NodeId; 4]> {
        self.nodes
            .neighbors_directed(NodeIndex::new(id.index as usize), direction)
            .filter_map(|index| {
                let node = self.nodes.node_weight(index)?;
                Some(NodeId { index: index.index() as u32, generation: node.generation })
            })
            .collect()
    }

    pub(super) fn withdraw(&mut self, request: RequestId) {
        let Some((_, id)) = self.requests.remove(&request) else { return };
        let id = self.find(id);
        if let Some(edge) = self.edge_mut(id)
            && let Some(at) = edge.requests.iter().position(|other| *other == request)
        {
            edge.requests.swap_remove(at);
            edge.wants[Level::Complete as usize] -= 1;
            self.queue(id, PLAN);
        }
    }

    pub(super) fn job_gone(&mut self, job: JobKey) {
        let mut open: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, (owner, _))| *owner == job)
            .map(|(request, _)| *request)
            .collect();
        open.sort();
        for request in open {
            self.withdraw(request);
        }
        for id in self.jobs.remove(&job).unwrap_or_default() {
            if let Some(node) = self.node_mut(id) {
                node.jobs.retain(|other| *other != job);
                self.out.push(Action::Left(id, job));
                self.leaving.push(id);
            }
        }
    }

    /// Removes a node that nobody wants and whose work has ended, then those that only it held.
    pub(super) fn remove_unused(&mut self, id: NodeId) {
        let index = NodeIndex::new(id.index as usize);
        let Some(node) = self.node(id) else { return };
        let held = self.nodes.neighbors_directed(index, Direction::Incoming).next().is_some();
        if held || !node.jobs.is_empty() || node.outstanding().next().is_some() {
            return;
        }
        let below = self.held_by(id);
        let outputs: SmallVec<[OutputIndex; 4]> = node.edges.iter().map(|edge| edge.output).collect();
        for output in outputs {
            let edge = EdgeId { node: id, output };
            self.index.forget(edge);
            self.drop_wants(edge);
        }
        for key in [false, true] {
            let Some(node) = self.node(id) else { break };
            let key = (node.vertex.clone(), key);
            if self.actives.get(&key) == Some(&id) {
                self.actives.remove(&key);
            }
        }
        let Some(node) = self.nodes.remove_node(index) else { return };
        for edge in &node.edges {
            if let EdgeState::Done { output, own: true, .. } = &edge.state {
                self.out.push(Action::Release(*output));
            }
        }
        if let Work::Done(outputs) = node.exec {
            self.out.extend(outputs.into_iter().map(Action::Release));
        }
        self.out.push(Action::Removed(id));
        self.leaving.extend(below);
    }
}
