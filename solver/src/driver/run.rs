//! Ops that run: their turn, their permits, how long they took.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::fault::{Fault, contain};
use super::task::{Boxed, Noted};
use super::{Message, Owner, send};
use crate::Domain;
use crate::graph::{ActionId, Event, JobKey, NodeId, OutputId};
use crate::progress::Status;

/// An op that waits for its permit.
pub(super) struct Ready {
    node: NodeId,
    inputs: Vec<OutputId>,
    kind: &'static str,
}

impl<D: Domain> Owner<D> {
    /// Puts an op that can run into the queue for its permit.
    pub(super) fn enqueue(&mut self, action: ActionId, node: NodeId, inputs: Vec<OutputId>, remaining: f32) {
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

    pub(super) fn open_gate(&mut self, kind: &'static str) {
        while let Some(action) = self.gates.entry(kind).or_default().next() {
            match self.ready.remove(&action) {
                Some(ready) => self.execute(action, ready),
                // It was cancelled while it waited.
                None => self.gates.entry(kind).or_default().done(action),
            }
        }
    }

    pub(super) fn permitted(&mut self, action: ActionId, kind: &'static str) {
        self.gates.entry(kind).or_default().permitted(action);
        self.open_gate(kind);
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
        let started = Arc::new(Mutex::new(None));
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
        let noted = Noted { node, cancelled, kind: Some(kind), started };
        self.start(action, noted, work, move |(result, seconds)| {
            Message::Executed(action, node, result, seconds)
        });
    }

    pub(super) fn executed(
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
}
