//! What events change, before the graph settles.

use std::sync::Arc;

use super::node::{EdgeState, Work};
use super::types::{Action, ActionId, Answer, EdgeId, Event, Failure, Level, MapInfo, NodeId, OutputId};
use super::{Asked, Graph, PLAN, Target, UPDATE};
use crate::error::InternalError;
use crate::{ExportableKey, KeyId, Record};

pub(crate) fn internal(text: impl Into<String>) -> Failure {
    Arc::new(InternalError(text.into()))
}

impl Graph {
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Build { job, request, vertices, target } => self.build(job, request, &vertices, target),
            Event::Withdraw(request) => self.withdraw(request),
            Event::JobGone(job) => self.job_gone(job),
            Event::Mapped(action, result) => self.mapped(action, result),
            Event::Digested(action, result) => {
                let Some(Target::Digest(id, input)) = self.work.remove(&action) else { return };
                let Some(slot) = self.node_mut(id).and_then(|node| node.contents.get_mut(input)) else {
                    return;
                };
                *slot = match result {
                    Ok(digest) => Work::Done(digest),
                    Err(failure) => Work::Failed(failure),
                };
                self.news_of_input(id, Some(input));
                self.work_ended(id);
            }
            Event::Fetched(action, output) => self.fetched(action, output),
            Event::Executed(action, result) => {
                let Some(Target::Execute(id)) = self.work.remove(&action) else {
                    for output in result.unwrap_or_default() {
                        self.out.push(Action::Release(output));
                    }
                    return;
                };
                let Some(node) = self.node_mut(id) else { return };
                node.exec = match result {
                    Ok(outputs) => Work::Done(outputs),
                    Err(failure) => Work::Failed(failure),
                };
                self.work_ended(id);
            }
            Event::Saved(action, ids) => self.saved(action, &ids),
            Event::Cancelled(action) => self.cancelled(action),
            Event::Answered(answers) => {
                let asked = std::mem::take(&mut self.asked);
                for (asked, answer) in asked.into_iter().zip(answers) {
                    self.answered(asked, answer);
                }
            }
        }
    }

    /// After a change of a node's work: its edges look at it, and it may be free to go.
    fn work_ended(&mut self, id: NodeId) {
        self.queue_all(id, UPDATE);
        self.queue_all(id, PLAN);
        self.touch(id);
        self.leaving.push(id);
    }

    fn mapped(&mut self, action: ActionId, result: Result<MapInfo, Failure>) {
        let Some(Target::Map(id)) = self.work.remove(&action) else { return };
        let Some(node) = self.node_mut(id) else { return };
        let result = result.and_then(|map| {
            if map.deps.len() != node.inputs.len() {
                let (deps, inputs) = (map.deps.len(), node.inputs.len());
                Err(internal(format!("Cache map describes {deps} inputs but the vertex has {inputs}")))
            } else if !map.done && !node.inputs.is_empty() {
                Err(internal("Vertex with inputs has more than one cache map"))
            } else {
                Ok(map)
            }
        });
        match result {
            Ok(map) => {
                node.maps.push(Arc::new(map));
                node.mapping = Work::Idle;
            }
            Err(failure) => node.mapping = Work::Failed(failure),
        }
        self.news_of_input(id, None);
        self.work_ended(id);
    }

    fn fetched(&mut self, action: ActionId, output: Option<OutputId>) {
        let target = self.work.remove(&action);
        let place = match target {
            Some(Target::Fetch(id)) => match self.edge(id).map(|edge| &edge.state) {
                Some(EdgeState::Loading(load) | EdgeState::StopLoading(load)) => Some((id, load.key)),
                _ => None,
            },
            _ => None,
        };
        let Some((id, key)) = place else {
            self.out.extend(output.map(Action::Release));
            return;
        };
        let Some(edge) = self.edge_mut(id) else { return };
        match output {
            Some(output) => {
                let keys = edge.keys.get(key).cloned().into_iter().collect();
                edge.state = EdgeState::Done { output, keys, own: true };
                edge.level = Level::Complete;
                self.out.push(Action::Hit(id));
                self.notify(id);
            }
            None => edge.state = EdgeState::Searching,
        }
        self.work_ended(id.node);
    }

    fn saved(&mut self, action: ActionId, ids: &[KeyId]) {
        let Some(Target::Save(id)) = self.work.remove(&action) else { return };
        let Some(node) = self.node_mut(id.node) else { return };
        let (vertex, export, ignore) = (node.vertex.clone(), node.export, node.ignore);
        let Some(edge) = node.edge_mut(id.output) else { return };
        let EdgeState::Saving(_, output, saves) = std::mem::replace(&mut edge.state, EdgeState::Searching)
        else {
            return;
        };
        let keys: Vec<ExportableKey> = saves
            .into_iter()
            .zip(ids)
            .map(|(save, key)| {
                ExportableKey::new(crate::KeyNode {
                    id: key.clone(),
                    digest: save.digest,
                    output: Some(save.output),
                    vertex: Some(vertex.clone()),
                    export,
                    deps: save.deps,
                })
            })
            .collect();
        if !ignore {
            for key in &keys {
                match edge.keys.iter_mut().find(|old| old.id() == key.id()) {
                    Some(old) => *old = key.clone(),
                    None => edge.keys.push(key.clone()),
                }
            }
        }
        edge.records = Vec::new();
        edge.state = EdgeState::Done { output, keys, own: false };
        edge.level = Level::Complete;
        self.notify(id);
        self.work_ended(id.node);
    }

    fn cancelled(&mut self, action: ActionId) {
        let Some(target) = self.work.remove(&action) else { return };
        let id = match target {
            Target::Map(id) | Target::Digest(id, _) | Target::Execute(id) => id,
            Target::Fetch(edge) | Target::Save(edge) => edge.node,
        };
        let Some(node) = self.node_mut(id) else { return };
        match target {
            Target::Map(_) => node.mapping = Work::Idle,
            Target::Digest(_, input) => {
                if let Some(slot) = node.contents.get_mut(input) {
                    *slot = Work::Idle;
                }
                node.steer.push(input as u32);
            }
            Target::Execute(_) => node.exec = Work::Idle,
            Target::Fetch(edge) | Target::Save(edge) => {
                if let Some(edge) = node.edge_mut(edge.output)
                    && let EdgeState::Loading(load) | EdgeState::StopLoading(load) =
                        std::mem::replace(&mut edge.state, EdgeState::Searching)
                {
                    // The record is as good as before, for whoever wants it next.
                    edge.tried.retain(|result| *result != load.record.result);
                    edge.records.push((load.key, load.record));
                }
            }
        }
        self.work_ended(id);
    }

    fn answered(&mut self, asked: Asked, answer: Answer) {
        if let Some(edge) = self.edge_mut(asked.edge()) {
            edge.asking -= 1;
        }
        match (asked, answer) {
            (Asked::Links(id, input, content), Answer::Links(found)) => {
                self.links_found(id, input, content, &found)
            }
            (Asked::Root(id, map), Answer::Key(exists, records)) => {
                self.queue(id, UPDATE);
                if exists {
                    self.add_root_key(id, map, records);
                }
            }
            (Asked::Records(id, key), Answer::Key(_, records)) => {
                self.queue(id, UPDATE);
                self.add_matched_key(id, key, records);
            }
            // An answer to another question: a miss.
            (Asked::Links(id, ..) | Asked::Root(id, _) | Asked::Records(id, _), _) => self.queue(id, UPDATE),
        }
    }

    /// Adds a key that the edge turned out to have, and tells its consumers.
    pub(super) fn add_key(&mut self, id: EdgeId, key: ExportableKey, records: Vec<Record>) {
        let Some(edge) = self.edge_mut(id) else { return };
        if edge.state.is_final() || edge.keys.iter().any(|old| old.id() == key.id()) {
            return;
        }
        let place = edge.keys.len();
        edge.keys.push(key);
        edge.records.reserve_exact(records.len());
        for record in records {
            if !edge.tried.contains(&record.result)
                && !edge.records.iter().any(|(_, old)| old.result == record.result)
            {
                edge.records.push((place, record));
            }
        }
        self.notify(id);
    }
}
