//! Progress of builds by their ids, for readers that come early or late.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use buildkit_errdefs::Kind;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::{Bus, Subscription};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How long a reader waits for a build that has not started: clients start both side by side.
const WAIT: Duration = Duration::from_secs(6);

/// Builds whose progress is kept after their end, for readers that come too late.
const KEEP: usize = 32;

/// Most bytes that the progress of these may take, but for that of the last one: how much one build says is up to
/// its client.
const KEEP_SIZE: usize = 32 << 20;

/// Clones share the builds.
#[derive(Clone, Default)]
pub(crate) struct BuildProgress {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    buses: HashMap<String, Bus>,
    /// With about the bytes that their progress takes, the oldest first.
    ended: VecDeque<(String, usize)>,
}

impl BuildProgress {
    /// Makes the progress of a build readable. The bus of an ended build of the same id is dropped.
    pub(crate) fn start(&self, id: &str, bus: Bus) {
        let mut state = self.inner.state.lock();
        state.ended.retain(|(ended, _)| ended != id);
        state.buses.insert(id.to_owned(), bus);
        drop(state);
        self.inner.changed.notify_waiters();
    }

    /// Notes that a build ended.
    pub(crate) fn end(&self, id: &str) {
        let mut state = self.inner.state.lock();
        let Some(bus) = state.buses.get(id) else { return };
        bus.close();
        let size = bus.size();
        state.ended.push_back((id.to_owned(), size));
        let mut sum: usize = state.ended.iter().map(|(_, size)| size).sum();
        while state.ended.len() > 1
            && (state.ended.len() > KEEP || sum > KEEP_SIZE)
            && let Some((oldest, size)) = state.ended.pop_front()
        {
            sum -= size;
            state.buses.remove(&oldest);
        }
    }

    /// Forgets a build that ended.
    pub(crate) fn forget(&self, id: &str) {
        let mut state = self.inner.state.lock();
        let before = state.ended.len();
        state.ended.retain(|(ended, _)| ended != id);
        if state.ended.len() < before {
            state.buses.remove(id);
        }
    }

    /// Reads the progress of a build from its beginning, if there is such a build.
    pub(crate) fn find(&self, id: &str) -> Option<Subscription> {
        self.inner.state.lock().buses.get(id).map(Bus::subscribe)
    }

    /// Reads the progress of a build from its beginning; waits a little for the build to start.
    pub(crate) async fn subscribe(&self, id: &str) -> Result<Subscription, RemoteError> {
        let find = async {
            loop {
                let changed = self.inner.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = self.find(id) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(WAIT, find)
            .await
            .map_err(|_| RemoteError::new(Kind::NotFound, format!("no such job {id}")))
    }
}

#[cfg(test)]
mod tests {
    use buildkit_util_cachedigest::Digest;
    use buildkit_util_progress::{Event, LogStream, VertexLog};

    use super::*;

    #[tokio::test]
    async fn a4_04_progress_of_ended_builds_is_bounded() {
        let progress = BuildProgress::default();
        let end = |id: &str, bytes: usize| {
            let bus = Bus::new();
            progress.start(id, bus.clone());
            bus.publish(Event::Log(VertexLog {
                vertex: Digest::sha256(b""),
                stream: LogStream::Stdout,
                data: vec![0; bytes].into(),
                timestamp: std::time::SystemTime::now(),
            }));
            progress.end(id);
        };
        let kept = || progress.inner.state.lock().buses.len();
        for id in 0..100 {
            end(&id.to_string(), 10);
        }
        assert_eq!(kept(), KEEP);
        for id in 0..5 {
            end(&format!("large-{id}"), KEEP_SIZE / 3);
        }
        assert_eq!(kept(), 2, "of the large ones");
        // Whoever started it has a right to see it.
        end("huge", KEEP_SIZE * 2);
        assert_eq!(kept(), 1);
        let mut reader = progress.subscribe("huge").await.expect("the last one");
        assert_eq!(reader.next().await.expect("a log").logs.len(), 1);
        assert!(reader.next().await.is_none());
        // What runs is not forgotten.
        progress.start("runs", Bus::new());
        for id in ["runs", "huge", "nobody"] {
            progress.forget(id);
        }
        assert!(progress.find("runs").is_some() && progress.find("huge").is_none());
        progress.end("runs");
        // Of a build that was never there nothing is kept.
        progress.end("nobody");
        assert_eq!((kept(), progress.inner.state.lock().ended.len()), (1, 1));
    }
}
