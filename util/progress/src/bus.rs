use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Event, SolveStatus};

/// Events that one read hands out at most, so that a late reader does not get a build in one piece.
const BATCH: usize = 512;

/// Events that are kept in one piece of memory.
const PIECE: usize = 256;

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
    events: Events,
    latest_status: HashMap<(Digest, String), usize>,
    /// Vertices that started and have not ended.
    running: HashSet<Digest>,
    closed: bool,
}

/// What was published, in pieces: large builds have many events, and one list that doubles when it is
/// full would hold up to twice the memory and copy all of them.
#[derive(Default)]
struct Events {
    /// All full but the last. Superseded events are `None`.
    pieces: Vec<Vec<Option<Event>>>,
}

impl Events {
    fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    fn push(&mut self, event: Event) {
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => last.push(Some(event)),
            _ => self.pieces.push(vec![Some(event)]),
        }
    }

    fn get(&self, position: usize) -> Option<&Event> {
        self.pieces.get(position / PIECE)?.get(position % PIECE)?.as_ref()
    }

    /// Those that were not superseded.
    fn iter(&self) -> impl Iterator<Item = &Event> {
        self.pieces.iter().flatten().flatten()
    }

    fn supersede(&mut self, position: usize) {
        if let Some(slot) =
            self.pieces.get_mut(position / PIECE).and_then(|piece| piece.get_mut(position % PIECE))
        {
            *slot = None;
        }
    }
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
                    state.events.supersede(old);
                }
            }
            state.events.push(event);
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
        self.shared.state.lock().events.iter().map(Event::size).sum()
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
            if let Some(event) = state.events.get(self.next) {
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

    #[test]
    fn many_events_are_read_in_order() {
        let bus = Bus::new();
        for number in 0..3 * PIECE {
            bus.publish(status(&(number % (2 * PIECE)).to_string(), number as i64));
        }
        let mut reader = bus.subscribe();
        let mut read = Vec::new();
        while let (batch, false) = reader.take()
            && !batch.is_empty()
        {
            read.extend(batch.statuses.iter().map(|status| status.current as usize));
        }
        assert!(read.iter().copied().eq(PIECE..3 * PIECE), "the first ones were superseded: {read:?}");
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
