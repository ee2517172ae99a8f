//! Bodies of uploads, which are watched: a registry that takes nothing more is left.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{BlobStream, Error as ContentError};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Is told how many bytes of a blob were sent.
pub(crate) type Told = Arc<dyn Fn(u64) + Send + Sync>;

/// A body on its way.
pub(crate) struct Sending(Arc<Mutex<State>>);

struct State {
    /// When the connection last asked for more.
    asked: Instant,
    /// The source is waited for, not the connection.
    in_source: bool,
    /// All was given to the connection.
    is_done: bool,
    failure: Option<ContentError>,
}

struct Reading {
    blob: Digest,
    stream: BlobStream,
    state: Arc<Mutex<State>>,
    told: Told,
    offset: u64,
    left: u64,
}

impl Sending {
    /// `len` bytes of a stream that begins at byte `offset` of its blob.
    pub(crate) fn new(
        blob: Digest,
        stream: BlobStream,
        offset: u64,
        len: u64,
        told: Told,
    ) -> (Self, reqwest::Body) {
        let state = State { asked: Instant::now(), in_source: false, is_done: false, failure: None };
        let state = Arc::new(Mutex::new(state));
        let reading = Reading { blob, stream, state: state.clone(), told, offset, left: len };
        let body: Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>> =
            Box::pin(futures::stream::try_unfold(reading, Reading::next));
        (Self(state), reqwest::Body::wrap_stream(body))
    }

    /// Ends when nothing more goes on: what did not come, and in which time.
    pub(crate) async fn watch(&self, stall: Duration, answer: Duration) -> (&'static str, Duration) {
        loop {
            let until = {
                let mut state = self.0.lock();
                if state.in_source {
                    state.asked = Instant::now();
                }
                let (what, limit) = if state.is_done { ("answer", answer) } else { ("progress", stall) };
                if state.asked.elapsed() >= limit {
                    return (what, limit);
                }
                state.asked + limit
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// Why the source could not be read.
    pub(crate) fn failure(&self) -> Option<ContentError> {
        self.0.lock().failure.take()
    }
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        {
            let mut state = self.state.lock();
            state.asked = Instant::now();
            if self.left == 0 {
                state.is_done = true;
                return Ok(None);
            }
            state.in_source = true;
        }
        let item = self.stream.next().await;
        let mut state = self.state.lock();
        (state.in_source, state.asked) = (false, Instant::now());
        let mut chunk = match item {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => {
                let text = error.to_string();
                state.failure = Some(error);
                return Err(std::io::Error::other(text));
            }
            None => {
                state.failure = Some(ContentError::Mismatch {
                    blob: self.blob.to_string(),
                    what: "size",
                    expected: (self.offset + self.left).to_string(),
                    found: self.offset.to_string(),
                });
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        // A piece ends before the stream does.
        chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= chunk.len() as u64;
        self.offset += chunk.len() as u64;
        state.is_done = self.left == 0;
        drop(state);
        (self.told)(self.offset);
        Ok(Some((chunk, self)))
    }
}
