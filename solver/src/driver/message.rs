//! What the owner is told, and what it makes of it.

use std::sync::Arc;
use std::time::SystemTime;

use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::Bus;
use tokio::sync::{mpsc, oneshot};

use super::Owner;
use super::fault::Fault;
use crate::graph::{ActionId, Event, JobKey, LoadVertex, NodeId, RequestId};
use crate::{CacheMapStep, Domain, Error, ExportableKey, OutputIndex, ResultId, VertexSpec};

/// A vertex of a build with its inputs as positions.
pub(crate) struct Loaded<D: Domain> {
    pub(crate) inputs: Vec<(u32, OutputIndex)>,
    pub(crate) spec: Arc<VertexSpec<D>>,
}

pub(super) type Respond<D> =
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
    /// Results that may be lost: keys of those that are shall go. Answered when that is done.
    ReleaseLost(Vec<ResultId>, oneshot::Sender<()>),
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

impl<D: Domain> Owner<D> {
    pub(super) fn receive(&mut self, message: Message<D>) {
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
            Message::ReleaseLost(results, done) => {
                results.iter().for_each(|result| self.release_if_lost(result));
                // Who asked may have gone meanwhile.
                let _ = done.send(());
                return;
            }
            Message::Withdraw(request) => {
                self.waiting.remove(&request);
                Event::Withdraw(request)
            }
            Message::JobGone(job) => {
                self.jobs.remove(&job);
                Event::JobGone(job)
            }
            // What cancelled work fails with is no answer for those who want it by now.
            Message::Mapped(action, _, Err(_))
            | Message::Digested(action, _, Err(_))
            | Message::Executed(action, _, Err(_), _)
                if self.is_cancelled(action) =>
            {
                self.ended(action)
            }
            Message::Mapped(action, node, result) => self.mapped(action, node, result),
            Message::Digested(action, node, result) => self.digested(action, node, result),
            Message::Fetched(action, id, result) => self.fetched(action, &id, result),
            Message::Permitted(action, kind) => {
                self.permitted(action, kind);
                return;
            }
            Message::Executed(action, node, result, seconds) => self.executed(action, node, result, seconds),
            Message::Saved(action, result, created_at) => self.saved(action, result, created_at),
            Message::Ended(action) => self.ended(action),
        };
        self.backlog.push(event);
    }
}
