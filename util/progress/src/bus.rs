use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Event, SolveStatus, VertexLog};

/// Events that one read hands out at most, so that a late reader does not get a build in one piece.
const BATCH: usize = 512;

/// Events that are kept in one piece of memory.
const PIECE: usize = 256;

/// About the most bytes of output that one bus keeps for readers that come late or are slow.
const OUTPUT: usize = 64 << 20;

/// Readers of [`Subscription::piled_up`] are called each time that about so many bytes of output are written.
const PILE: usize = OUTPUT / 8;

/// Stands for the first output of a step that is not kept any more.
const CLIPPED: &[u8] = b"[output clipped, the build wrote too much]\n";

/// The progress of one build, for any number of writers and readers. Clones are the same bus.
///
/// Events are kept for readers that come late. Of a status that changes often only the latest state
/// is kept, and of output only the last 64 MiB: memory grows with what a build consists of, and not with how
/// much is reported.
#[derive(Clone, Default)]
pub struct Bus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// Much output was written, or the bus was closed.
    piled: Notify,
}

#[derive(Default)]
struct State {
    events: Events,
    vertices: HashMap<Digest, Positions>,
    /// Vertices that started and have not ended.
    running: HashSet<Digest>,
    /// Bytes of output that are kept.
    output: usize,
    /// Bytes of output that were ever written, in units of [`PILE`], and the rest.
    piles: usize,
    pile: usize,
    /// Where the oldest output may be.
    oldest: usize,
    closed: bool,
}

/// Where the events about one vertex are that are more than its state.
#[derive(Default)]
struct Positions {
    /// Of each part the latest state.
    parts: HashMap<String, usize>,
    logs: VecDeque<usize>,
    warnings: Vec<usize>,
    /// Where the first output was, if it is not kept any more.
    clipped: Option<usize>,
}

/// What was published, in pieces: large builds have many events, and one list that doubles when it is
/// full would hold up to twice the memory and copy all of them.
#[derive(Default)]
struct Events {
    pieces: Vec<Piece>,
    len: usize,
}

/// All full but the last, or empty again when all that was in it is gone.
#[derive(Default)]
struct Piece {
    /// Events that are gone are `None`.
    events: Vec<Option<Event>>,
    /// Those that are not.
    left: usize,
}

impl Events {
    fn push(&mut self, event: Event) {
        if self.len.is_multiple_of(PIECE) {
            self.pieces.push(Piece::default());
        }
        if let Some(last) = self.pieces.last_mut() {
            last.events.push(Some(event));
            last.left += 1;
            self.len += 1;
        }
    }

    fn get(&self, position: usize) -> Option<&Event> {
        self.pieces.get(position / PIECE)?.events.get(position % PIECE)?.as_ref()
    }

    /// Those that are there.
    fn iter(&self) -> impl Iterator<Item = &Event> {
        self.pieces.iter().flat_map(|piece| &piece.events).flatten()
    }

    /// Takes out an event.
    fn take(&mut self, position: usize) -> Option<Event> {
        let piece = self.pieces.get_mut(position / PIECE)?;
        let event = piece.events.get_mut(position % PIECE)?.take()?;
        piece.left -= 1;
        if piece.left == 0 && piece.events.len() == PIECE {
            piece.events = Vec::new();
        }
        Some(event)
    }

    /// Puts another event in the place of one that is there.
    fn replace(&mut self, position: usize, event: Event) {
        let place = self.pieces.get_mut(position / PIECE).map(|piece| piece.events.get_mut(position % PIECE));
        if let Some(Some(place)) = place {
            *place = Some(event);
        }
    }
}

impl State {
    /// Adds an event; whether much output has come together.
    fn push(&mut self, event: Event) -> bool {
        let position = self.events.len;
        let mut has_piled = false;
        match &event {
            Event::Vertex(vertex) => {
                if vertex.started.is_some() && vertex.completed.is_none() {
                    self.running.insert(vertex.digest.clone());
                } else {
                    self.running.remove(&vertex.digest);
                }
            }
            Event::Status(status) => {
                let parts = &mut self.vertex(&status.vertex).parts;
                let old = match parts.get_mut(&status.id) {
                    Some(latest) => Some(std::mem::replace(latest, position)),
                    None => parts.insert(status.id.clone(), position),
                };
                if let Some(old) = old {
                    self.events.take(old);
                }
            }
            Event::Log(log) => {
                self.vertex(&log.vertex).logs.push_back(position);
                let size = event.size();
                self.output += size;
                self.pile += size;
                has_piled = self.pile >= PILE;
                if has_piled {
                    self.piles += 1;
                    self.pile = 0;
                }
            }
            Event::Warning(warning) => self.vertex(&warning.vertex).warnings.push(position),
        }
        self.events.push(event);
        // However large the last one is.
        while self.output > OUTPUT && self.oldest < position {
            self.clip(self.oldest);
            self.oldest += 1;
        }
        has_piled
    }

    fn vertex(&mut self, digest: &Digest) -> &mut Positions {
        self.vertices.entry(digest.clone()).or_default()
    }

    /// Lets go of the event at a position if it is output.
    fn clip(&mut self, position: usize) {
        let Some(event @ Event::Log(log)) = self.events.get(position) else { return };
        self.output = self.output.saturating_sub(event.size());
        let Some(positions) = self.vertices.get_mut(&log.vertex) else { return };
        positions.logs.pop_front();
        if positions.clipped.is_some() {
            self.events.take(position);
        } else {
            positions.clipped = Some(position);
            let mark = VertexLog { data: Bytes::from_static(CLIPPED), ..log.clone() };
            self.events.replace(position, Event::Log(mark));
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
        let has_piled = {
            let mut state = self.shared.state.lock();
            if state.closed {
                return;
            }
            state.push(event)
        };
        self.shared.changed.notify_waiters();
        if has_piled {
            self.shared.piled.notify_waiters();
        }
    }

    /// Ends all subscriptions once they have read everything.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_waiters();
        self.shared.piled.notify_waiters();
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

    /// What was published about one vertex, but for its states, and is still kept.
    pub fn past(&self, vertex: &Digest) -> Vec<Event> {
        let state = self.shared.state.lock();
        let Some(positions) = state.vertices.get(vertex) else { return Vec::new() };
        let mut all: Vec<usize> = positions.parts.values().copied().collect();
        all.extend(positions.clipped);
        all.extend(&positions.logs);
        all.extend(&positions.warnings);
        all.sort_unstable();
        all.into_iter().filter_map(|position| state.events.get(position).cloned()).collect()
    }

    /// Whether this is the same bus as another.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// A reader that starts at the first event.
    pub fn subscribe(&self) -> Subscription {
        Subscription { shared: self.shared.clone(), next: 0, piles: 0 }
    }
}

/// Reads a [`Bus`] from its beginning.
pub struct Subscription {
    shared: Arc<Shared>,
    next: usize,
    /// How many piles of output there were at the last look.
    piles: usize,
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

    /// Waits until so much output has come since the last time that it should be read before the bus lets go of
    /// it, or until the bus is closed. For those who have time.
    pub async fn piled_up(&mut self) {
        let shared = self.shared.clone();
        loop {
            let piled = shared.piled.notified();
            tokio::pin!(piled);
            piled.as_mut().enable();
            {
                let state = shared.state.lock();
                if state.closed || state.piles > self.piles {
                    self.piles = state.piles;
                    return;
                }
            }
            piled.await;
        }
    }

    /// What there is now, without waiting, and whether this is the end.
    pub fn take(&mut self) -> (SolveStatus, bool) {
        let state = self.shared.state.lock();
        let mut batch = SolveStatus::default();
        let mut count = 0;
        while count < BATCH && self.next < state.events.len {
            if let Some(event) = state.events.get(self.next) {
                batch.push(event.clone());
                count += 1;
            }
            self.next += 1;
        }
        let at_end = self.next == state.events.len;
        (batch, state.closed && at_end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{LogStream, VertexStatus};

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

    fn output(vertex: &str, data: Vec<u8>) -> Event {
        Event::Log(VertexLog {
            vertex: Digest::sha256(vertex),
            stream: LogStream::Stdout,
            data: data.into(),
            timestamp: SystemTime::UNIX_EPOCH,
        })
    }

    /// The names of the parts and the lengths of the output, in order, with the marks.
    fn names(batch: &SolveStatus) -> (Vec<&str>, Vec<&[u8]>) {
        let parts = batch.statuses.iter().map(|part| part.id.as_str());
        (parts.collect(), batch.logs.iter().map(|log| &log.data[..log.data.len().min(50)]).collect())
    }

    #[test]
    fn output_is_kept_up_to_a_limit_the_last_of_it() {
        let bus = Bus::new();
        let mut early = bus.subscribe();
        bus.publish(status("first", 1));
        for vertex in ["a", "b", "a"] {
            bus.publish(output(vertex, b"old".to_vec()));
        }
        let (batch, _) = early.take();
        assert_eq!(names(&batch), (vec!["first"], vec![&b"old"[..]; 3]));
        // Small writes count for the memory that they take.
        let writes = 2 * OUTPUT / size_of::<Event>();
        for _ in 0..writes {
            bus.publish(output("a", b"x".to_vec()));
        }
        bus.publish(output("b", b"new".to_vec()));
        assert!(bus.size() < OUTPUT + 4 * size_of::<Event>() + 1000, "{}", bus.size());
        let empty =
            bus.shared.state.lock().events.pieces.iter().filter(|piece| piece.events.is_empty()).count();
        assert!(empty > writes / PIECE / 3, "{empty}");
        let mut late = bus.subscribe();
        let (batch, _) = late.take();
        let (parts, logs) = names(&batch);
        assert_eq!(parts, ["first"], "only output goes");
        assert_eq!(logs[..3], [CLIPPED, CLIPPED, b"x"]);
        let vertices: Vec<_> = batch.logs[..2].iter().map(|log| &log.vertex).collect();
        assert_eq!(vertices, [&Digest::sha256("a"), &Digest::sha256("b")]);
        let past = bus.past(&Digest::sha256("b"));
        let past: Vec<&[u8]> = past
            .iter()
            .filter_map(|event| match event {
                Event::Log(log) => Some(&log.data[..]),
                _ => None,
            })
            .collect();
        assert_eq!(past, [CLIPPED, b"new"]);
    }

    #[test]
    fn states_that_are_reported_often_take_no_memory() {
        let bus = Bus::new();
        for number in 0..100 * PIECE {
            bus.publish(status("a", number as i64));
        }
        assert!(
            bus.shared.state.lock().events.pieces.iter().map(|piece| piece.events.len()).sum::<usize>()
                <= 2 * PIECE
        );
        assert_eq!(bus.past(&Digest::sha256(b"v")).len(), 1);
        assert_eq!(bus.past(&Digest::sha256(b"other")), []);
    }

    #[tokio::test]
    async fn those_who_have_time_are_called_when_there_is_much() {
        let bus = Bus::new();
        let mut reader = bus.subscribe();
        {
            let mut waits = std::pin::pin!(reader.piled_up());
            assert!(futures::poll!(waits.as_mut()).is_pending());
            bus.publish(output("a", b"little".to_vec()));
            assert!(futures::poll!(waits.as_mut()).is_pending());
            bus.publish(output("a", vec![0; PILE]));
            waits.await;
        }
        let mut waits = std::pin::pin!(reader.piled_up());
        assert!(futures::poll!(waits.as_mut()).is_pending(), "once for each pile");
        bus.close();
        waits.await;
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
