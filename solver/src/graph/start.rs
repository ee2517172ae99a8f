//! Starts the work that a node's edges need and stops what none of them needs any more.

use std::sync::Arc;

use smallvec::SmallVec;

use super::events::internal;
use super::node::{EdgeState, Load, Need, Work};
use super::types::{Action, ActionId, EdgeId, NodeId, OutputId, SaveKey};
use super::{Graph, Target};
use crate::OutputIndex;

impl<T> Work<T> {
    /// Starts when wanted and idle (returns true), cancels when running and not wanted.
    fn steer(&mut self, wanted: bool, action: ActionId, out: &mut Vec<Action>) -> bool {
        match self {
            Self::Idle if wanted => {
                *self = Self::Running(action);
                true
            }
            Self::Running(running) if !wanted => {
                let running = *running;
                out.push(Action::Cancel(running));
                *self = Self::Cancelling(running);
                false
            }
            _ => false,
        }
    }
}

impl Graph {
    pub(super) fn start_and_stop(&mut self, id: NodeId) {
        let Some(node) = self.node_mut(id) else { return };
        node.listed = false;
        self.steer_map(id);
        self.steer_contents(id);
        self.steer_exec(id);
        let outputs: SmallVec<[OutputIndex; 4]> =
            self.node(id).into_iter().flat_map(|node| node.edges.iter().map(|edge| edge.output)).collect();
        for output in outputs {
            self.steer_edge(EdgeId { node: id, output });
        }
    }

    fn steer_map(&mut self, id: NodeId) {
        let action = ActionId(self.next());
        let mut out = std::mem::take(&mut self.out);
        if let Some(node) = self.node_mut(id) {
            let wanted = node.edges.iter().any(|edge| edge.need == Need::Map) && !node.maps_done();
            let number = node.maps.len();
            if node.mapping.steer(wanted, action, &mut out) {
                out.push(Action::Map(action, id, number));
                self.work.insert(action, Target::Map(id));
            }
        }
        self.out = out;
    }

    fn steer_contents(&mut self, id: NodeId) {
        let Some(node) = self.node_mut(id) else { return };
        let mut inputs = std::mem::take(&mut node.steer);
        inputs.sort_unstable();
        inputs.dedup();
        for input in inputs {
            let input = input as usize;
            let Some(node) = self.node(id) else { return };
            let wanted = node.edges.iter().any(|edge| edge.deps.get(input).is_some_and(|dep| dep.need));
            if !wanted && !matches!(node.contents.get(input), Some(Work::Running(_))) {
                continue;
            }
            let output = node.inputs.get(input).and_then(|edge| self.output_of(*edge));
            let flags =
                node.maps.first().and_then(|map| map.deps.get(input)).map(|dep| [dep.prepare, dep.content]);
            let action = ActionId(self.next());
            let mut out = std::mem::take(&mut self.out);
            // Wanted of an input that is not complete yet: later.
            let wanted = wanted && output.is_some();
            if let Some(slot) = self.node_mut(id).and_then(|node| node.contents.get_mut(input))
                && slot.steer(wanted, action, &mut out)
                && let (Some(output), Some(flags)) = (output, flags)
            {
                out.push(Action::Digest(action, id, input, output, flags));
                self.work.insert(action, Target::Digest(id, input));
            }
            self.out = out;
        }
    }

    fn steer_exec(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        let wanted = node
            .edges
            .iter()
            .any(|edge| edge.need == Need::Exec && matches!(edge.state, EdgeState::Searching));
        let change = match node.exec {
            Work::Idle => wanted,
            Work::Running(_) => !wanted,
            _ => false,
        };
        if !change {
            return;
        }
        let inputs: Option<Vec<OutputId>> = node.inputs.iter().map(|input| self.output_of(*input)).collect();
        let remaining = node.remaining;
        let action = ActionId(self.next());
        let mut out = std::mem::take(&mut self.out);
        let wanted = wanted && inputs.is_some();
        if let Some(node) = self.node_mut(id)
            && node.exec.steer(wanted, action, &mut out)
            && let Some(inputs) = inputs
        {
            out.push(Action::Execute(action, id, inputs, remaining));
            self.work.insert(action, Target::Execute(id));
        }
        self.out = out;
    }

    /// The result of an edge that has one.
    fn output_of(&self, id: EdgeId) -> Option<OutputId> {
        match &self.edge(self.find(id))?.state {
            EdgeState::Done { output, .. } => Some(*output),
            _ => None,
        }
    }

    fn steer_edge(&mut self, id: EdgeId) {
        let Some(node) = self.node(id.node) else { return };
        let Some(edge) = node.edge(id.output) else { return };
        match (&edge.state, edge.need) {
            (EdgeState::Searching, Need::Load) => self.start_load(id),
            (EdgeState::Loading(load), need) if need != Need::Load => {
                let load = load.clone();
                self.out.push(Action::Cancel(load.action));
                if let Some(edge) = self.edge_mut(id) {
                    edge.state = EdgeState::StopLoading(load);
                }
            }
            (EdgeState::Searching, Need::Exec) => {
                let Work::Done(outputs) = &node.exec else { return };
                match outputs.get(id.output as usize) {
                    Some(output) => self.start_save(id, *output),
                    None => {
                        let (need, got) = (id.output, outputs.len());
                        let text = format!(
                            "invalid response from exec need {need} index but {got} results received"
                        );
                        self.fail(id, internal(text));
                    }
                }
            }
            _ => {}
        }
    }

    fn start_load(&mut self, id: EdgeId) {
        let action = ActionId(self.next());
        let Some(edge) = self.edge_mut(id) else { return };
        let best = edge.records.iter().enumerate().max_by(|(_, (_, a)), (_, (_, b))| {
            (a.priority, a.created_at, &b.result).cmp(&(b.priority, b.created_at, &a.result))
        });
        let Some(best) = best.map(|(at, _)| at) else { return };
        let (key, record) = edge.records.swap_remove(best);
        edge.tried.push(record.result.clone());
        let result = record.result.clone();
        edge.state = EdgeState::Loading(Box::new(Load { action, key, record }));
        self.work.insert(action, Target::Fetch(id));
        self.out.push(Action::Fetch(action, id, result));
    }

    fn start_save(&mut self, id: EdgeId, output: OutputId) {
        let Some(node) = self.node(id.node) else { return };
        let deps = self.all_dep_keys(id);
        let saves: Vec<SaveKey> = node
            .maps
            .iter()
            .map(|map| SaveKey {
                digest: map.digest.clone(),
                output: id.output,
                deps: deps.clone(),
                preimage: map.preimage.as_ref().map(Arc::clone),
            })
            .collect();
        let action = ActionId(self.next());
        let Some(edge) = self.edge_mut(id) else { return };
        edge.state = EdgeState::Saving(action, output, saves.clone());
        edge.need = Need::Nothing;
        self.work.insert(action, Target::Save(id));
        self.queue(id, super::PLAN);
        self.out.push(Action::Save(action, id, saves, output));
    }
}
