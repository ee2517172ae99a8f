//! Who sessions are at registries.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buildkit_session::SessionCaller;
use buildkit_session_auth::{
    Credentials, Error, PublicKey, Salt, credentials, token_authority, verify_token_authority,
};
use buildkit_util_cachedigest::Digest;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long it is believed who a session is; some stores give passwords that are good for five minutes.
const KNOWN: Duration = Duration::from_secs(4 * 60 + 50);
/// Entries of a list; names come from clients and registries.
pub(crate) const MAX_ENTRIES: usize = 4096;

/// Whom a token was made for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// Anybody.
    Anonymous,
    /// Those who have this key.
    Authority(PublicKey),
    /// Those who have these credentials, by their digest.
    Password(Digest),
    /// One session, by its number: ids are chosen by clients.
    Session(u64),
}

/// A session's user at one registry.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) owner: Owner,
    /// What tokens are fetched with here; the client fetches them if there are none.
    pub(crate) user: Option<Credentials>,
}

struct Known {
    identity: Identity,
    until: Instant,
    /// Tells a session from a later one of the same id.
    session: CancellationToken,
}

/// What is known of sessions, by registry and id.
pub(crate) struct Identities {
    salt: Salt,
    /// Sessions that did not prove whose they are.
    unproven: AtomicU64,
    known: Mutex<HashMap<(String, String), Known>>,
}

impl Identities {
    /// Nobody is known yet.
    pub(crate) fn new() -> Self {
        Self { salt: Salt::random(), unproven: AtomicU64::new(0), known: Mutex::default() }
    }

    /// Who a session is at a registry. It has to prove it; what is `is_doubtful`, because the registry did not take
    /// it, is asked for again.
    pub(crate) async fn of(
        &self,
        caller: &SessionCaller,
        host: &str,
        is_doubtful: bool,
    ) -> Result<Identity, Error> {
        let key = (host.to_owned(), caller.id().to_owned());
        if let Some(known) = self.known.lock().get(&key)
            && known.until > Instant::now()
            && known.session == *caller.closed()
            // A password may have been changed.
            && !(is_doubtful && known.identity.user.is_some())
        {
            return Ok(known.identity.clone());
        }
        let identity = match token_authority(caller, host, &self.salt).await? {
            Some(key) => {
                // One that has tokens but proves nothing shares them with nobody.
                let proof = verify_token_authority(caller, host, &self.salt, &key).await;
                let owner = match proof {
                    Ok(true) => Owner::Authority(key),
                    _ => Owner::Session(self.unproven.fetch_add(1, Ordering::Relaxed)),
                };
                Identity { owner, user: None }
            }
            None => {
                let user = credentials(caller, host).await?;
                let owner = if user.is_anonymous() {
                    Owner::Anonymous
                } else {
                    let text = format!("{}\0{}", user.username, user.secret);
                    Owner::Password(Digest::sha256(text))
                };
                Identity { owner, user: Some(user) }
            }
        };
        let (until, session) = (Instant::now() + KNOWN, caller.closed().clone());
        let mut others = self.known.lock();
        if others.len() >= MAX_ENTRIES {
            others.retain(|_, known| known.until > Instant::now() && !known.session.is_cancelled());
            if others.len() >= MAX_ENTRIES {
                others.clear();
            }
        }
        others.insert(key, Known { identity: identity.clone(), until, session });
        Ok(identity)
    }
}
