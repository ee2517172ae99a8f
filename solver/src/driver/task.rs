//! Tasks that do the work of ops.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_util_appcontext::TaskGuard;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Message, Owner, send};
use crate::graph::{ActionId, Event, NodeId};
use crate::progress::Status;
use crate::{Domain, OpContext};

pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Tells the owner when work was dropped before it gave a result.
struct EndGuard<D: Domain> {
    messages: mpsc::UnboundedSender<Message<D>>,
    action: ActionId,
    armed: bool,
}

impl<D: Domain> EndGuard<D> {
    fn finish(mut self, message: Message<D>) {
        self.armed = false;
        send(&self.messages, message);
    }
}

impl<D: Domain> Drop for EndGuard<D> {
    fn drop(&mut self) {
        if self.armed {
            send(&self.messages, Message::Ended(self.action));
        }
    }
}

/// What is noted of work before it starts.
pub(super) struct Noted {
    pub(super) node: NodeId,
    pub(super) cancelled: CancellationToken,
    /// The kind of an op that runs, whose gate is told when it ends.
    pub(super) kind: Option<&'static str>,
    /// When it began, if that is shown.
    pub(super) started: Arc<Mutex<Option<SystemTime>>>,
}

impl Noted {
    pub(super) fn new(node: NodeId, cancelled: CancellationToken) -> Self {
        Self { node, cancelled, kind: None, started: Arc::default() }
    }
}

pub(super) struct Running {
    noted: Noted,
    task: TaskGuard<()>,
}

impl<D: Domain> Owner<D> {
    pub(super) fn context(&self, node: NodeId, cancelled: &CancellationToken) -> Option<OpContext<D>> {
        let vertex = self.vertices.get(&node)?.clone();
        Some(OpContext { vertex: vertex.spec.clone(), shared: vertex, cancelled: cancelled.clone() })
    }

    /// Runs work in a task and tells the owner what came of it.
    pub(super) fn start<T: Send + 'static>(
        &mut self,
        action: ActionId,
        noted: Noted,
        work: impl Future<Output = T> + Send + 'static,
        message: impl FnOnce(T) -> Message<D> + Send + 'static,
    ) {
        let guard = EndGuard { messages: self.messages.clone(), action, armed: true };
        let task = buildkit_util_appcontext::spawn(async move {
            let guard = guard;
            let result = work.await;
            guard.finish(message(result));
        });
        self.running.insert(action, Running { noted, task });
    }

    pub(super) fn cancel(&mut self, action: ActionId) {
        if self.ready.remove(&action).is_some() {
            return self.backlog.push(Event::Cancelled(action));
        }
        if let Some(running) = self.running.get(&action) {
            running.noted.cancelled.cancel();
            running.task.abort();
        }
    }

    /// Whether work was told to stop.
    pub(super) fn is_cancelled(&self, action: ActionId) -> bool {
        self.running.get(&action).is_some_and(|running| running.noted.cancelled.is_cancelled())
    }

    pub(super) fn ended(&mut self, action: ActionId) -> Event {
        if let Some(Running { noted, .. }) = self.running.get(&action)
            && noted.kind.is_some()
            && let Some(vertex) = self.vertices.get(&noted.node)
            && let Some(started) = *noted.started.lock()
        {
            let completed = Some(self.now());
            let error = "context canceled".to_owned();
            vertex.show(&Status { started: Some(started), completed, cached: false, error });
        }
        self.take_running(action);
        Event::Cancelled(action)
    }

    /// Forgets a task that has ended; when it had started to work.
    pub(super) fn take_running(&mut self, action: ActionId) -> Option<SystemTime> {
        let noted = self.running.remove(&action)?.noted;
        if let Some(kind) = noted.kind {
            self.gates.entry(kind).or_default().done(action);
            self.open_gate(kind);
        }
        *noted.started.lock()
    }
}
