use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::{Bus, Event, LogStream, VertexLog};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use crate::limits::{Clip, LogLimits};
use crate::ring::Ring;

/// The end of a clipped stream that is delivered after all, in bytes.
const TAIL: usize = 256 << 10;
/// Pieces that the tail is delivered in, well below the limit of messages, in bytes.
const PIECE: usize = 64 << 10;

/// Writes one stream of one step to one or more buses. The tail of a clipped stream comes with
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown), [`finish`](Self::finish) or when the writer is
/// dropped. Writing never waits and never fails.
pub struct LogWriter {
    buses: Arc<dyn Fn(Event) + Send + Sync>,
    vertex: Digest,
    stream: LogStream,
    limits: LogLimits,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes written by the process.
    size: u64,
    /// Bytes delivered.
    delivered: u64,
    /// Whether the last write was cut and the reader was told.
    clipping: bool,
    /// What was not delivered, once something was not.
    tail: Option<Ring>,
}

impl LogWriter {
    /// A writer for one bus.
    pub fn new(bus: Bus, vertex: Digest, stream: LogStream, limits: LogLimits) -> Self {
        Self::with(vertex, stream, limits, move |event| bus.publish(event))
    }

    /// A writer whose events go wherever `publish` takes them, for steps that several builds share.
    pub fn with(
        vertex: Digest,
        stream: LogStream,
        limits: LogLimits,
        publish: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        let (buses, started) = (Arc::new(publish), Instant::now());
        Self { buses, vertex, stream, limits, started, state: Mutex::new(State::default()) }
    }

    /// Writes some output.
    pub fn write(&self, data: &[u8]) {
        let allowed = self.limits.allowed(self.started.elapsed());
        let mut state = self.state.lock();
        let before = state.size;
        let length = data.len() as u64;
        state.size = before.saturating_add(length);
        let fits = allowed.map_or(length, |(limit, _)| limit.saturating_sub(before).min(length));
        // At most the length of a slice.
        let (now, rest) = data.split_at(fits as usize);
        if rest.is_empty() {
            state.clipping = false;
            if let Some(tail) = &mut state.tail {
                tail.push(now);
            }
            self.publish(&mut state, Bytes::copy_from_slice(now));
            return;
        }
        // The tail starts with what was written last before it, as far as it is in the same write.
        state.tail.get_or_insert_with(|| Ring::new(TAIL)).push(data);
        let mut piece = now.to_vec();
        if !std::mem::replace(&mut state.clipping, true)
            && let Some((_, clip)) = allowed
        {
            piece.extend_from_slice(Clip::message(clip).as_bytes());
        }
        self.publish(&mut state, piece.into());
    }

    /// Delivers the tail of a clipped stream. Later writes go on as before.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        let Some(tail) = state.tail.take() else { return };
        let mut tail = Bytes::from(tail.into_bytes());
        while !tail.is_empty() {
            let piece = tail.split_to(tail.len().min(PIECE));
            self.publish(&mut state, piece);
        }
    }

    /// Bytes delivered so far, with the lines that say what was clipped.
    pub fn delivered(&self) -> u64 {
        self.state.lock().delivered
    }

    /// Publishes under the lock, so that pieces stay in order; the bus takes them at once.
    fn publish(&self, state: &mut State, data: Bytes) {
        if data.is_empty() {
            return;
        }
        state.delivered += data.len() as u64;
        let timestamp = SystemTime::now();
        (self.buses)(Event::Log(VertexLog {
            vertex: self.vertex.clone(),
            stream: self.stream,
            data,
            timestamp,
        }));
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl AsyncWrite for LogWriter {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.write(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn vertex() -> Digest {
        Digest::sha256(b"v")
    }

    fn run(limits: LogLimits, writes: &[&[u8]]) -> String {
        let bus = Bus::new();
        let writer = LogWriter::new(bus.clone(), vertex(), LogStream::Stderr, limits);
        for write in writes {
            writer.write(write);
        }
        drop(writer);
        let mut subscription = bus.subscribe();
        let mut text = Vec::new();
        loop {
            let (batch, _) = subscription.take();
            if batch.is_empty() {
                return String::from_utf8(text).expect("text");
            }
            for log in batch.logs {
                assert_eq!((log.stream, log.vertex), (LogStream::Stderr, vertex()));
                text.extend_from_slice(&log.data);
            }
        }
    }

    #[test]
    fn clipping_and_tail() {
        let limits = LogLimits { size: Some(10), speed: None };
        let clipped = "\n[output clipped, log limit 10B reached]\n";
        assert_eq!(run(limits, &[b"12345", b"67890"]), "1234567890");
        assert_eq!(run(limits, &[b"12345", b"6789012", b"345"]), format!("1234567890{clipped}6789012345"));
        assert_eq!(run(LogLimits { size: None, speed: None }, &[b"12345678901234"]), "12345678901234");
    }

    #[test]
    fn b_24_a_flood_is_bounded_and_its_end_is_delivered() {
        let line = [b'x'; 1 << 16];
        let mut writes: Vec<&[u8]> = vec![&line; 4096];
        writes.push(b"the error");
        let limits = LogLimits::default();
        let text = run(limits, &writes);
        assert!(text.ends_with("the error"));
        let notes = text.matches("[output clipped").count();
        assert!(notes >= 1);
        assert!(text.len() <= (2 << 20) + TAIL + notes * 64, "{}", text.len());
    }

    #[tokio::test]
    async fn shutdown_delivers_the_tail_once() {
        let bus = Bus::new();
        let limits = LogLimits { size: Some(1), speed: None };
        let mut writer = LogWriter::new(bus.clone(), vertex(), LogStream::Stdout, limits);
        writer.write_all(b"abc").await.expect("never fails");
        writer.shutdown().await.expect("never fails");
        let delivered = writer.delivered();
        drop(writer);
        let (batch, _) = bus.subscribe().take();
        let sizes: u64 = batch.logs.iter().map(|log| log.data.len() as u64).sum();
        assert_eq!(sizes, delivered);
        assert_eq!(batch.logs.last().map(|log| log.data.clone()), Some(Bytes::from_static(b"abc")));
    }
}
