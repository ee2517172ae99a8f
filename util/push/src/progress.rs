//! Progress of one blob, which is shown only if something is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buildkit_util_progress::{Part, Writer};
use parking_lot::Mutex;

/// Least time between two reports of one blob.
const PAUSE: Duration = Duration::from_millis(100);

/// One blob. It is shown as done when it is dropped, whatever became of it.
#[derive(Clone)]
pub(crate) struct Blob(Arc<Mutex<State>>);

struct State {
    writer: Writer,
    id: String,
    total: i64,
    current: i64,
    told: Instant,
    part: Option<Part>,
}

impl Blob {
    pub(crate) fn new(writer: &Writer, digest: &str, total: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            writer: writer.clone(),
            id: format!("pushing {digest}"),
            total: i64::try_from(total).unwrap_or(i64::MAX),
            current: 0,
            told: Instant::now(),
            part: None,
        })))
    }

    /// So many bytes were sent.
    pub(crate) fn sent(&self, current: u64) {
        let mut state = self.0.lock();
        state.current = i64::try_from(current).unwrap_or(i64::MAX);
        if state.part.is_none() {
            state.part = Some(state.writer.start(&state.id));
        } else if state.told.elapsed() < PAUSE {
            return;
        }
        state.told = Instant::now();
        if let Some(part) = &state.part {
            part.update(state.current, state.total);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            part.done(self.current, self.total);
        }
    }
}
