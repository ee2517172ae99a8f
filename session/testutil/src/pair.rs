use std::time::Duration;

use buildkit_session::{SessionCaller, SessionManager, SessionServer};
use buildkit_util_appcontext::{TaskGuard, spawn};

use crate::gate::{Gate, Silence};

/// How long tests wait for what is certain to happen.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Bytes that may wait in each direction; small, so that tests meet flow control.
const BUFFER: usize = 64 << 10;

/// Header by which clients of slow networks ask for other health checks; here it makes them quick.
const HEALTH_TIMEOUT: &str = "x-buildkit-session-health-custom-timeout";

/// A session with both ends in this process. Both end with it.
pub struct SessionPair {
    manager: SessionManager,
    caller: SessionCaller,
    silence: Silence,
    client: Option<TaskGuard<()>>,
    daemon: Option<TaskGuard<()>>,
}

impl SessionPair {
    /// Opens a session that offers what `allow` adds to it.
    ///
    /// # Panics
    /// When the session does not open.
    pub async fn open(allow: impl FnOnce(&mut SessionServer)) -> Self {
        let mut server = SessionServer::new("").await;
        allow(&mut server);
        let mut headers = server.headers();
        // Least that is allowed, in milliseconds.
        headers.append(HEALTH_TIMEOUT, "1000".to_owned());
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let (manager, silence) = (SessionManager::new(), Silence::default());
        let theirs = Gate::new(theirs, silence.clone());
        let daemon = spawn({
            let manager = manager.clone();
            async move { manager.serve(ours, headers).await.expect("the session opens") }
        });
        let id = server.id().to_owned();
        // How the connection ends is the business of the daemon's end.
        let client = spawn(async move { drop(server.serve(theirs).await) });
        let caller = manager.get(&id, DEADLINE).await.expect("the session appears");
        Self { manager, caller, silence, client: Some(client), daemon: Some(daemon) }
    }

    /// The daemon's end.
    pub fn caller(&self) -> &SessionCaller {
        &self.caller
    }

    /// The manager that knows the session.
    pub fn manager(&self) -> &SessionManager {
        &self.manager
    }

    /// Ends the client as `kill -9` does: the byte stream is closed, whatever goes on.
    pub fn kill_client(&mut self) {
        self.client = None;
    }

    /// Ends the client as a power failure does: nothing more is heard of it. The daemon's end closes
    /// when a health check fails, some two seconds later.
    pub fn silence_client(&self) {
        self.silence.fall();
    }

    /// Waits until the daemon's end has closed and its manager has forgotten it.
    ///
    /// # Panics
    /// When that takes longer than [`DEADLINE`].
    pub async fn closed(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let ended = tokio::time::timeout(DEADLINE, daemon).await;
            ended.expect("the daemon's end closes in time").expect("the daemon's end does not panic");
        }
    }
}
