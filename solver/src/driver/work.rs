//! Cache maps, digests of content, and loads.

use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::fault::{Fault, contain};
use super::task::Noted;
use super::{Message, Owner};
use crate::graph::{ActionId, DepInfo, EdgeId, Event, MapInfo, NodeId, OutputId};
use crate::progress::Status;
use crate::{CacheMapStep, Domain, ResultId};

impl<D: Domain> Owner<D> {
    pub(super) fn map(&mut self, action: ActionId, node: NodeId, index: usize) {
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
        let noted = Noted { started: Arc::new(Mutex::new(started)), ..Noted::new(node, cancelled) };
        self.start(action, noted, work, move |result| Message::Mapped(action, node, result));
    }

    pub(super) fn mapped(
        &mut self,
        action: ActionId,
        node: NodeId,
        result: Result<CacheMapStep<D>, Fault<D>>,
    ) -> Event {
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

    pub(super) fn digest(
        &mut self,
        action: ActionId,
        node: NodeId,
        input: usize,
        output: OutputId,
        flags: [bool; 2],
    ) {
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
        let noted = Noted::new(node, cancelled);
        self.start(action, noted, work, move |result| Message::Digested(action, node, result));
    }

    pub(super) fn fetch(&mut self, action: ActionId, edge: EdgeId, id: ResultId) {
        let cancelled = CancellationToken::new();
        let Some(cx) = self.context(edge.node, &cancelled) else {
            return self.backlog.push(Event::Cancelled(action));
        };
        let now = self.now();
        self.fetching.insert(edge.node, now);
        if let Some(vertex) = self.vertices.get(&edge.node) {
            vertex.show(&Status { started: Some(now), cached: true, ..Status::default() });
        }
        let (results, result) = (self.results.clone(), id.clone());
        let work = contain::<D, _>(async move { results.load(&cx, &result).await });
        let noted = Noted::new(edge.node, cancelled);
        self.start(action, noted, work, move |result| Message::Fetched(action, id, result));
    }

    pub(super) fn digested(
        &mut self,
        action: ActionId,
        node: NodeId,
        result: Result<Option<Digest>, Fault<D>>,
    ) -> Event {
        self.running.remove(&action);
        let result = result.map_err(|fault| {
            let now = self.now();
            self.failure(node, fault, Some(now))
        });
        Event::Digested(action, result)
    }

    pub(super) fn fetched(
        &mut self,
        action: ActionId,
        id: &ResultId,
        result: Result<D::Output, Fault<D>>,
    ) -> Event {
        self.running.remove(&action);
        let output = match result {
            Ok(output) => Some(self.keep(output)),
            Err(fault) => {
                let error = fault.text();
                tracing::warn!(result = %id.0, error, "cached result cannot be loaded, looking further");
                self.release_if_lost(id);
                None
            }
        };
        Event::Fetched(action, output)
    }
}
