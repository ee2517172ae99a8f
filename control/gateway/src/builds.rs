use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use buildkit_errdefs::Kind;
use buildkit_frontend_gateway::BridgeForwarder;
use buildkit_util_grpcerrors::RemoteError;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How long a call waits for its build: clients start both side by side.
const WAIT: Duration = Duration::from_secs(3);

/// The builds that clients drive now, by their ids. Clones share them.
#[derive(Clone, Default)]
pub struct ActiveBuilds {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    builds: Mutex<HashMap<String, Arc<BridgeForwarder>>>,
    changed: Notify,
}

/// Keeps a build reachable until it is dropped.
pub struct Registration {
    builds: ActiveBuilds,
    id: String,
}

impl ActiveBuilds {
    /// Nobody builds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a build reachable. The id is unique: the solver refuses a second build of the same id.
    pub fn register(&self, id: &str, forwarder: Arc<BridgeForwarder>) -> Registration {
        self.inner.builds.lock().insert(id.to_owned(), forwarder);
        self.inner.changed.notify_waiters();
        Registration { builds: self.clone(), id: id.to_owned() }
    }

    /// The build of an id, waiting a little for it to start.
    ///
    /// # Errors
    /// When it does not start in time.
    pub async fn get(&self, id: &str) -> Result<Arc<BridgeForwarder>, RemoteError> {
        let find = async {
            loop {
                let changed = self.inner.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(forwarder) = self.inner.builds.lock().get(id) {
                    return forwarder.clone();
                }
                changed.await;
            }
        };
        tokio::time::timeout(WAIT, find)
            .await
            .map_err(|_| RemoteError::new(Kind::NotFound, format!("no such job {id}")))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.builds.inner.builds.lock().remove(&self.id);
    }
}
