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
    ended: VecDeque<String>,
}

impl BuildProgress {
    /// Makes the progress of a build readable. The bus of an ended build of the same id is dropped.
    pub(crate) fn start(&self, id: &str, bus: Bus) {
        let mut state = self.inner.state.lock();
        state.ended.retain(|ended| ended != id);
        state.buses.insert(id.to_owned(), bus);
        drop(state);
        self.inner.changed.notify_waiters();
    }

    /// Notes that a build ended.
    pub(crate) fn end(&self, id: &str) {
        let mut state = self.inner.state.lock();
        if let Some(bus) = state.buses.get(id) {
            bus.close();
        }
        state.ended.push_back(id.to_owned());
        if state.ended.len() > KEEP
            && let Some(oldest) = state.ended.pop_front()
        {
            state.buses.remove(&oldest);
        }
    }

    /// Reads the progress of a build from its beginning.
    pub(crate) async fn subscribe(&self, id: &str) -> Result<Subscription, RemoteError> {
        let find = async {
            loop {
                let changed = self.inner.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(bus) = self.inner.state.lock().buses.get(id) {
                    return bus.subscribe();
                }
                changed.await;
            }
        };
        tokio::time::timeout(WAIT, find)
            .await
            .map_err(|_| RemoteError::new(Kind::NotFound, format!("no such job {id}")))
    }
}
