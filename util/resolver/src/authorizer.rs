//! Who requests come from: credentials and tokens of client sessions, each used for nobody else.
//!
//! A token is kept under the registry, what it is good for, and whom it was made for. A session uses a
//! token that another one fetched only when both are the same user: they have proved to have the same
//! authority key, or they gave the same credentials, or both have none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session::{SessionCaller, SessionGroup, SessionManager};
use buildkit_session_auth::{Credentials, Token, TokenRequest, credentials, fetch_token};
use parking_lot::Mutex;
use reqwest::Client;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use crate::Limits;
use crate::challenge::{Bearer, Challenge};
use crate::error::{Attempt, Error};
use crate::identity::{Identities, Identity, MAX_ENTRIES, Owner};
use crate::scope::Scopes;
use crate::token::{CLIENT_ID, Fetch, PlainRealms, check_realm};

#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    host: String,
    realm: String,
    service: String,
    scopes: Scopes,
    owner: Owner,
}

struct Kept {
    header: HeaderValue,
    until: Instant,
}

/// Gate, closed while the token is fetched: who else needs it waits.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// How far it is certain that what a registry says comes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Channel {
    /// HTTPS.
    Checked,
    /// HTTPS whose certificates are not checked.
    Unchecked,
    /// Plain HTTP.
    Plain,
}

/// A repository, as it is asked. What is said in one channel holds for no other: whoever can answer in the place
/// of a registry that one client wants to be asked insecurely could else send credentials of other clients to a
/// realm of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    host: String,
    repository: String,
    channel: Channel,
}

impl Place {
    pub(crate) fn new(host: &str, repository: &str, channel: Channel) -> Self {
        Self { host: host.to_owned(), repository: repository.to_owned(), channel }
    }
}

#[derive(Default)]
struct State {
    /// What registries want to see.
    challenges: HashMap<Place, Challenge>,
    tokens: HashMap<TokenKey, Slot>,
}

pub(crate) struct Authorizer {
    sessions: SessionManager,
    identities: Identities,
    state: Mutex<State>,
}

/// A request to be authorized.
pub(crate) struct Asking<'a> {
    pub(crate) host: &'a str,
    /// The repository as it is called at the host.
    pub(crate) repository: &'a str,
    pub(crate) scopes: Scopes,
    pub(crate) group: &'a SessionGroup,
    pub(crate) attempt: &'a Attempt,
    pub(crate) channel: Channel,
    /// Asks realms.
    pub(crate) client: &'a Client,
    pub(crate) limits: &'a Limits,
    pub(crate) user_agent: &'a str,
}

/// What is shown to a registry.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) header: HeaderValue,
    /// It was made for this request: nothing better is to be had.
    pub(crate) is_fresh: bool,
}

/// Why one session does not help.
enum Failed {
    /// It is not there.
    Gone,
    Error(Error),
}

impl From<buildkit_session::Error> for Failed {
    fn from(_: buildkit_session::Error) -> Self {
        Self::Gone
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Authorizer {
    pub(crate) fn new(sessions: SessionManager) -> Self {
        Self { sessions, identities: Identities::new(), state: Mutex::default() }
    }

    /// What a registry was found to want.
    pub(crate) fn known(&self, place: &Place) -> Option<Challenge> {
        self.state.lock().challenges.get(place).cloned()
    }

    /// What a registry was found to want does not count any more.
    pub(crate) fn forget(&self, place: &Place) {
        self.state.lock().challenges.remove(place);
    }

    /// What to show to a registry that is known to want something.
    pub(crate) async fn prepare(&self, asking: &Asking<'_>, challenge: &Challenge) -> Result<Shown, Error> {
        self.answer(asking, challenge, None).await
    }

    /// What to show to a registry that did not take what it was shown.
    pub(crate) async fn challenged(
        &self,
        asking: &Asking<'_>,
        challenge: Challenge,
        shown: Option<Shown>,
    ) -> Result<Shown, Error> {
        {
            let mut state = self.state.lock();
            if state.challenges.len() >= MAX_ENTRIES {
                state.challenges.clear();
            }
            let mut kept = challenge.clone();
            if let Challenge::Bearer(bearer) = &mut kept {
                // Those are about this request.
                bearer.error.clear();
            }
            let place = Place::new(asking.host, asking.repository, asking.channel);
            state.challenges.insert(place, kept);
        }
        self.answer(asking, &challenge, shown.map(|shown| shown.header)).await
    }

    async fn answer(
        &self,
        asking: &Asking<'_>,
        challenge: &Challenge,
        stale: Option<HeaderValue>,
    ) -> Result<Shown, Error> {
        let found = match challenge {
            Challenge::Basic => {
                self.sessions.any(asking.group, |caller| self.basic(asking, caller, stale.as_ref())).await
            }
            // Those who left are not waited for again and again.
            Challenge::Bearer(bearer) if self.is_for_anybody(asking, bearer).await => Err(Failed::Gone),
            Challenge::Bearer(bearer) => {
                let found = self
                    .sessions
                    .any(asking.group, |caller| self.bearer(asking, bearer, caller, stale.as_ref()));
                found.await
            }
        };
        match (found, challenge) {
            (Ok(shown), _) => Ok(shown),
            (Err(Failed::Error(error)), _) => Err(error),
            // Nobody is there: what anybody may have is still to be had.
            (Err(Failed::Gone), Challenge::Bearer(bearer)) => {
                let nobody = Identity { owner: Owner::Anonymous, user: Some(Credentials::default()) };
                self.token(asking, bearer, &nobody, None, stale.as_ref()).await
            }
            (Err(Failed::Gone), Challenge::Basic) => Err(unauthorized(asking, "no client gives credentials")),
        }
    }

    /// Whether no session is there, and a token for anybody is.
    async fn is_for_anybody(&self, asking: &Asking<'_>, bearer: &Bearer) -> bool {
        for id in asking.group.ids() {
            if self.sessions.get(&id, Duration::ZERO).await.is_ok() {
                return false;
            }
        }
        let slot = self.state.lock().tokens.get(&key_of(asking, bearer, Owner::Anonymous)).cloned();
        match slot {
            Some(slot) => slot.lock().await.as_ref().is_some_and(|kept| kept.until > Instant::now()),
            None => false,
        }
    }

    async fn basic(
        &self,
        asking: &Asking<'_>,
        caller: SessionCaller,
        stale: Option<&HeaderValue>,
    ) -> Result<Shown, Failed> {
        let user = credentials(&caller, asking.host).await.map_err(|source| session(asking, source))?;
        if user.is_anonymous() || user.username.is_empty() {
            return Err(unauthorized(asking, "the client has no user name and password for it").into());
        }
        let encoded = BASE64_STANDARD.encode(format!("{}:{}", user.username, user.secret));
        let header = secret_header(&format!("Basic {encoded}"))
            .ok_or_else(|| unauthorized(asking, "user name and password cannot be sent"))?;
        if stale == Some(&header) {
            return Err(unauthorized(asking, "user name and password are not accepted").into());
        }
        Ok(Shown { header, is_fresh: true })
    }

    async fn bearer(
        &self,
        asking: &Asking<'_>,
        bearer: &Bearer,
        caller: SessionCaller,
        stale: Option<&HeaderValue>,
    ) -> Result<Shown, Failed> {
        let identity = self.identities.of(&caller, asking.host, stale.is_some()).await;
        let identity = identity.map_err(|source| session(asking, source))?;
        Ok(self.token(asking, bearer, &identity, Some(&caller), stale).await?)
    }

    async fn token(
        &self,
        asking: &Asking<'_>,
        bearer: &Bearer,
        identity: &Identity,
        caller: Option<&SessionCaller>,
        stale: Option<&HeaderValue>,
    ) -> Result<Shown, Error> {
        let slot = self.slot(key_of(asking, bearer, identity.owner.clone()));
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref()
            && kept.until > Instant::now()
            && stale != Some(&kept.header)
        {
            return Ok(Shown { header: kept.header.clone(), is_fresh: false });
        }
        let token = self.fetch(asking, bearer, identity, caller).await?;
        let header = secret_header(&format!("Bearer {}", token.token))
            .ok_or_else(|| Error::invalid(asking.attempt, "the token cannot be sent"))?;
        let seconds = u64::try_from(token.expires_in).unwrap_or(0).clamp(1, 24 * 3600);
        // A tenth earlier than it ends, so that it is still good when it arrives.
        let until = Instant::now() + Duration::from_secs(seconds).mul_f64(0.9);
        *kept = Some(Kept { header: header.clone(), until });
        Ok(Shown { header, is_fresh: true })
    }

    fn slot(&self, key: TokenKey) -> Slot {
        let mut state = self.state.lock();
        if state.tokens.len() >= MAX_ENTRIES {
            let now = Instant::now();
            // One that is locked is being fetched.
            state.tokens.retain(|_, slot| {
                slot.try_lock().map_or(true, |kept| kept.as_ref().is_some_and(|kept| kept.until > now))
            });
            if state.tokens.len() >= MAX_ENTRIES {
                state.tokens.clear();
            }
        }
        state.tokens.entry(key).or_default().clone()
    }

    async fn fetch(
        &self,
        asking: &Asking<'_>,
        bearer: &Bearer,
        identity: &Identity,
        caller: Option<&SessionCaller>,
    ) -> Result<Token, Error> {
        let request = TokenRequest {
            client_id: CLIENT_ID.to_owned(),
            host: asking.host.to_owned(),
            realm: bearer.realm.clone(),
            service: bearer.service.clone(),
            scopes: asking.scopes.list(),
        };
        let action = format!("token for {} ({})", request.scopes.join(" "), asking.attempt.action);
        let attempt = Attempt::new(asking.host, action);
        let has_secret = identity.user.as_ref().is_none_or(|user| !user.is_anonymous());
        let plain = match asking.channel {
            Channel::Plain => PlainRealms::All,
            Channel::Checked | Channel::Unchecked => PlainRealms::None,
        };
        let realm = check_realm(&attempt, &request, has_secret, plain)?;
        match (&identity.user, caller) {
            (None, Some(caller)) => {
                let token = fetch_token(caller, &request).await;
                token.map_err(|source| Error::Session { attempt, source })
            }
            (user, _) => {
                let user = user.clone().unwrap_or_default();
                let (client, limits, user_agent) = (asking.client, asking.limits, asking.user_agent);
                let fetch = Fetch { client, limits, user_agent, attempt: attempt.clone() };
                fetch.token(&realm, &request, &user).await.map_err(|error| match error.kind() {
                    Kind::Unauthenticated | Kind::PermissionDenied => {
                        Error::Unauthorized { attempt, reason: format!("failed to fetch token: {error}") }
                    }
                    // It was tried often enough.
                    _ => Error::Token(Box::new(error)),
                })
            }
        }
    }
}

fn key_of(asking: &Asking<'_>, bearer: &Bearer, owner: Owner) -> TokenKey {
    TokenKey {
        host: asking.host.to_owned(),
        realm: bearer.realm.clone(),
        service: bearer.service.clone(),
        scopes: asking.scopes.clone(),
        owner,
    }
}

fn session(asking: &Asking<'_>, source: buildkit_session_auth::Error) -> Error {
    Error::Session { attempt: asking.attempt.clone(), source }
}

fn unauthorized(asking: &Asking<'_>, reason: &str) -> Error {
    Error::Unauthorized { attempt: asking.attempt.clone(), reason: reason.to_owned() }
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}
