use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Event, SolveStatus};

/// Events that one read hands out at most, so that a late reader does not get a build in one piece.
const BATCH: usize = 512;

/// The progress of one build, for any number of writers and readers. Clones are the same bus.
///
/// Events are kept for readers that come late. Of a status that changes often only the latest state
/// is kept, so memory grows with what happened, not with how often it was reported; log volume is
/// limited by those who write logs.
#[derive(Clone, Default)]
pub struct Bus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Superseded events are `None`.
    events: Vec<Option<Event>>,
    latest_status: HashMap<(Digest, String), usize>,
    /// Vertices that started and have not ended.
    running: HashSet<Digest>,
    closed: bool,
}

impl Bus {
    /// An empty, open bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event. After [`close`](Self::close) it is dropped.
    pub fn publish(&self, event: Event) {
        {
            let mut state = self.shared.state.lock();
            if state.closed {
                return;
            }
            if let Event::Vertex(vertex) = &event {
                if vertex.started.is_some() && vertex.completed.is_none() {
                    state.running.insert(vertex.digest.clone());
                } else {
                    state.running.remove(&vertex.digest);
                }
            }
            let position = state.events.len();
            if let Event::Status(status) = &event {
                let key = (status.vertex.clone(), status.id.clone());
                if let Some(old) = state.latest_status.insert(key, position) {
                    state.events[old] = None;
                }
            }
            state.events.push(Some(event));
        }
        self.shared.changed.notify_waiters();
    }

    /// Ends all subscriptions once they have read everything.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_waiters();
    }

    /// Whether no vertex runs.
    pub fn is_settled(&self) -> bool {
        self.shared.state.lock().running.is_empty()
    }

    /// Waits until no vertex runs.
    pub async fn settled(&self) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_settled() {
                return;
            }
            changed.await;
        }
    }

    /// Whether the bus was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.state.lock().closed
    }

    /// About how many bytes of memory the events take.
    pub fn size(&self) -> usize {
        self.shared.state.lock().events.iter().flatten().map(Event::size).sum()
    }

    /// A reader that starts at the first event.
    pub fn subscribe(&self) -> Subscription {
        Subscription { shared: self.shared.clone(), next: 0 }
    }
}

/// Reads a [`Bus`] from its beginning.
pub struct Subscription {
    shared: Arc<Shared>,
    next: usize,
}

impl Subscription {
    /// The next changes, as soon as there are some; `None` when the bus is closed and read.
    pub async fn next(&mut self) -> Option<SolveStatus> {
        let shared = self.shared.clone();
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (batch, closed) = self.take();
            if !batch.is_empty() {
                return Some(batch);
            }
            if closed {
                return None;
            }
            changed.await;
        }
    }

    /// What there is now, without waiting, and whether this is the end.
    pub fn take(&mut self) -> (SolveStatus, bool) {
        let state = self.shared.state.lock();
        let mut batch = SolveStatus::default();
        let mut count = 0;
        while count < BATCH && self.next < state.events.len() {
            if let Some(event) = &state.events[self.next] {
                batch.push(event.clone());
                count += 1;
            }
            self.next += 1;
        }
        let at_end = self.next == state.events.len();
        (batch, state.closed && at_end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::VertexStatus;

    fn status(id: &str, current: i64) -> Event {
        Event::Status(VertexStatus {
            id: id.to_owned(),
            vertex: Digest::sha256(b"v"),
            name: String::new(),
            total: 10,
            current,
            timestamp: SystemTime::UNIX_EPOCH,
            started: None,
            completed: None,
        })
    }

    #[tokio::test]
    async fn late_readers_get_everything_but_superseded_states() {
        let bus = Bus::new();
        let mut early = bus.subscribe();
        bus.publish(status("a", 1));
        assert_eq!(early.next().await.expect("open").statuses[0].current, 1);
        bus.publish(status("b", 1));
        bus.publish(status("a", 2));
        bus.close();
        bus.publish(status("a", 3));
        let ids =
            |batch: SolveStatus| batch.statuses.iter().map(|s| (s.id.clone(), s.current)).collect::<Vec<_>>();
        let expect = vec![("b".to_owned(), 1), ("a".to_owned(), 2)];
        assert_eq!(ids(early.next().await.expect("has events")), expect);
        assert!(early.next().await.is_none());
        let mut late = bus.subscribe();
        assert_eq!(ids(late.next().await.expect("has events")), expect);
        assert!(late.next().await.is_none());
    }
}
