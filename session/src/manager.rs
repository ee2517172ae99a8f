use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use buildkit_errdefs::{Classify, Kind};
use dashmap::DashMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Headers, HealthPolicy, SessionCaller};

/// How long callers wait for a session that has not been opened yet: clients open sessions and
/// start builds side by side.
pub const LOOKUP_WAIT: Duration = Duration::from_secs(5);

/// Why a session could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The session is not there and did not come.
    #[error("no active session for {0}: context deadline exceeded")]
    NotFound(String),
    /// No session was named.
    #[error("no active sessions")]
    NoSessions,
    /// The headers name no session.
    #[error("Session has no id")]
    NoId,
    /// The connection could not be made.
    #[error("Failed to connect to session `{id}`")]
    Connect {
        /// Id of the session.
        id: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) | Self::NoSessions => Kind::Unavailable,
            Self::NoId => Kind::InvalidArgument,
            Self::Connect { .. } => Kind::Unavailable,
        }
    }
}

/// Ids of the sessions that may serve one piece of work, in order of preference.
#[derive(Clone, Default)]
pub struct SessionGroup {
    ids: Ids,
}

#[derive(Clone)]
enum Ids {
    Fixed(Vec<String>),
    /// Those of whoever wants the work at the time of asking.
    Live(Arc<dyn Fn() -> Vec<String> + Send + Sync>),
}

impl Default for Ids {
    fn default() -> Self {
        Self::Fixed(Vec::new())
    }
}

impl SessionGroup {
    /// A group of these sessions; empty ids and repetitions are left out.
    pub fn new(ids: impl IntoIterator<Item = String>) -> Self {
        Self { ids: Ids::Fixed(distinct(ids)) }
    }

    /// A group whose sessions come and go: `ids` is asked anew each time. For work that outlives the one
    /// who started it, such as fetching what several builds want.
    pub fn live(ids: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { ids: Ids::Live(Arc::new(ids)) }
    }

    /// The ids, as they are now.
    pub fn ids(&self) -> Vec<String> {
        match &self.ids {
            Ids::Fixed(ids) => ids.clone(),
            Ids::Live(ids) => distinct(ids()),
        }
    }
}

impl fmt::Debug for SessionGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionGroup").field(&self.ids()).finish()
    }
}

fn distinct(ids: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for id in ids {
        if !id.is_empty() && !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    distinct
}

/// Finds the sessions that are open. Clones share them.
#[derive(Clone, Default)]
pub struct SessionManager {
    inner: Arc<ManagerInner>,
}

#[derive(Default)]
struct ManagerInner {
    sessions: DashMap<String, SessionCaller>,
    changed: Notify,
}

impl SessionManager {
    /// A manager without sessions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves a session over a byte stream until it ends: the client leaves, its health checks fail,
    /// or the returned future is dropped. A session of the same id takes the older one's place.
    ///
    /// # Errors
    /// When the headers carry no id, or the connection fails at once.
    pub async fn serve<T>(&self, io: T, headers: Headers) -> Result<(), Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let id = headers.session_id().to_owned();
        if id.is_empty() {
            return Err(Error::NoId);
        }
        let closed = CancellationToken::new();
        let caller = SessionCaller::connect(io, &headers, closed.clone())
            .await
            .map_err(|source| Error::Connect { id: id.clone(), source })?;
        self.inner.sessions.insert(id.clone(), caller.clone());
        self.inner.changed.notify_waiters();
        let _registration = Registration { manager: self.clone(), id: id.clone(), caller: caller.clone() };
        tracing::debug!(session = %id, "session started");
        tokio::select! {
            () = closed.cancelled() => tracing::debug!(session = %id, "session ended"),
            reason = HealthPolicy::from_headers(&headers).watch(caller.channel()) => {
                tracing::warn!(session = %id, reason, "session is not healthy, closing it");
            }
        }
        Ok(())
    }

    /// The session of an id, waiting for at most `wait` until it is opened. A prefix `x:` of the id
    /// only tells vertices apart and is not looked at.
    ///
    /// # Errors
    /// When it does not appear in time.
    pub async fn get(&self, id: &str, wait: Duration) -> Result<SessionCaller, Error> {
        let key = match id.split_once(':') {
            Some((_, rest)) if !rest.is_empty() => rest,
            _ => id,
        };
        let lookup = async {
            loop {
                let changed = self.inner.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(caller) = self.find(key) {
                    return caller;
                }
                changed.await;
            }
        };
        tokio::time::timeout(wait, lookup).await.map_err(|_| Error::NotFound(key.to_owned()))
    }

    fn find(&self, id: &str) -> Option<SessionCaller> {
        let caller = self.inner.sessions.get(id).map(|entry| entry.value().clone());
        caller.filter(|caller| !caller.closed().is_cancelled())
    }

    /// Tries `work` with the sessions of a group, one after another, until it succeeds.
    ///
    /// # Errors
    /// The last error; [`Error::NoSessions`] for an empty group.
    pub async fn any<R, E, F, Fut>(&self, group: &SessionGroup, mut work: F) -> Result<R, E>
    where
        E: From<Error>,
        F: FnMut(SessionCaller) -> Fut,
        Fut: Future<Output = Result<R, E>>,
    {
        let mut last = E::from(Error::NoSessions);
        // Sessions that are open now come first: waiting for one that has gone costs seconds.
        let (open, missing): (Vec<String>, Vec<String>) = group
            .ids()
            .into_iter()
            .partition(|id| self.find(id.split_once(':').map_or(id.as_str(), |(_, id)| id)).is_some());
        for id in open.into_iter().chain(missing) {
            let result = match self.get(&id, LOOKUP_WAIT).await {
                Ok(caller) => work(caller).await,
                Err(error) => Err(E::from(error)),
            };
            match result {
                Ok(value) => return Ok(value),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Takes a session off the list when it ends, unless another one has taken its place.
struct Registration {
    manager: SessionManager,
    id: String,
    caller: SessionCaller,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.caller.closed().cancel();
        self.manager
            .inner
            .sessions
            .remove_if(&self.id, |_, current| current.closed() == self.caller.closed());
    }
}
