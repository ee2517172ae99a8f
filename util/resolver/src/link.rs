//! One repository at one host: requests with authorization, redirects and retries.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use buildkit_session::SessionGroup;
use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderName, HeaderValue, LOCATION, USER_AGENT,
    WWW_AUTHENTICATE,
};
use reqwest::{Body, Method, Url};

use crate::Access;
use crate::answer::Answer;
use crate::authorizer::{Asking, Channel, Place, Shown};
use crate::challenge::Challenge;
use crate::error::{Attempt, Error, one_line};
use crate::hosts::{Host, Scheme, SharedConnections, bare_name, host_of, same_server};
use crate::registries::Inner;
use crate::retry::Budget;
use crate::scope::Scopes;

/// How often an answer may send us elsewhere.
const MAX_HOPS: usize = 10;
/// How often credentials are renewed for one request.
const MAX_ROUNDS: usize = 3;

/// One repository at one host.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) inner: Arc<Inner>,
    pub(crate) host: Host,
    pub(crate) connections: SharedConnections,
    /// The registry as names of images have it.
    pub(crate) domain: String,
    /// The repository as it is called at the host.
    pub(crate) repository: String,
    pub(crate) group: SessionGroup,
    pub(crate) access: Access,
}

/// A request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<Bytes>,
    /// What a token has to be good for beyond the repository itself.
    pub(crate) also_pull: Option<String>,
    /// What comes is verified by a digest, so it does not matter where from.
    pub(crate) by_digest: bool,
    pub(crate) attempt: Attempt,
}

impl Call {
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // Values are ours, or were checked: one that is none is left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

impl Link {
    /// A request below the repository: `tail` is `manifests/latest` and the like, with its query.
    pub(crate) fn call(&self, method: Method, tail: &str, what: &str) -> Result<Call, Error> {
        let attempt = Attempt::new(self.host.name.as_str(), format!("{method} {what}"));
        let scheme = self.connections.scheme(&self.host);
        let text = format!("{scheme}://{}/v2/{}/{tail}", self.host.name, self.repository);
        let mut url = Url::parse(&text)
            .map_err(|error| Error::refused(&attempt, format!("invalid name of a host: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::refused(&attempt, "invalid name of a host"));
        }
        if self.host.is_mirror {
            // Caches of several registries need to be told which is meant.
            url.query_pairs_mut().append_pair("ns", &self.domain);
        }
        Ok(Call { method, url, headers: Vec::new(), body: None, also_pull: None, by_digest: false, attempt })
    }

    /// Sends a request until it is answered with success.
    pub(crate) async fn send(&self, call: &Call, budget: &mut Budget) -> Result<Answer, Error> {
        loop {
            let once = tokio::time::timeout_at(budget.deadline(), self.once(call, None)).await;
            let once = once.unwrap_or_else(|_| {
                let limit = self.inner.options.limits.total;
                Err(Error::Timeout { attempt: call.attempt.clone(), what: "success", limit })
            });
            match once {
                Ok(answer) => return Ok(answer),
                Err(error) => budget.again(error).await?,
            }
        }
    }

    /// Sends a request until its whole answer is there, of no more than `max` bytes.
    pub(crate) async fn get(&self, call: &Call, budget: &mut Budget, max: u64) -> Result<Bytes, Error> {
        loop {
            match self.send(call, budget).await?.bytes(max).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => budget.again(error).await?,
            }
        }
    }

    /// Sends a request once, with a body that cannot be sent again. With `shown` its authorization was
    /// prepared; a registry that does not take it fails the request.
    pub(crate) async fn once(&self, call: &Call, body: Option<Body>) -> Result<Answer, Error> {
        let is_own = self.is_own(&self.current(&call.url));
        let mut shown = if is_own { self.prepare(call).await } else { None };
        let mut body = body;
        let is_stream = body.is_some();
        for _ in 0..MAX_ROUNDS {
            let answer = self.follow(call, shown.as_ref(), body.take()).await?;
            if answer.status() != 401 || !self.is_own(answer.url()) {
                return self.checked(answer).await;
            }
            let headers = answer.headers(WWW_AUTHENTICATE);
            let challenge = Challenge::best(headers.iter().map(Vec::as_slice));
            let said = answer.said().await;
            let Some(challenge) = challenge else {
                return Err(Error::Status { attempt: call.attempt.clone(), said: Box::new(said) });
            };
            let reason = |challenge: &Challenge| match challenge {
                Challenge::Bearer(bearer) if !bearer.error.is_empty() => {
                    format!("server message: {}", one_line(&bearer.error))
                }
                _ => said.to_string(),
            };
            if shown.as_ref().is_some_and(|shown| shown.is_fresh) {
                let reason = match &challenge {
                    Challenge::Basic => {
                        format!("the client's user name and password were not accepted: {said}")
                    }
                    bearer => reason(bearer),
                };
                return Err(self.denied(call, &reason));
            }
            let asking = self.asking(call, Some(&challenge));
            let next = self.inner.authorizer.challenged(&asking, challenge.clone(), shown.take()).await;
            shown = Some(next?);
            if is_stream {
                // What was sent of the body is gone. The next try will show what was just made.
                return Err(Error::Network {
                    attempt: call.attempt.clone(),
                    reason: format!("the body was not taken: {}", reason(&challenge)),
                });
            }
        }
        Err(self.denied(call, "the registry asks for credentials again and again"))
    }

    fn denied(&self, call: &Call, reason: &str) -> Error {
        let verb = if self.access == Access::Push { "push" } else { "pull" };
        let reason =
            format!("{verb} access denied, repository does not exist or may require authorization: {reason}");
        Error::Unauthorized { attempt: call.attempt.clone(), reason }
    }

    async fn checked(&self, answer: Answer) -> Result<Answer, Error> {
        if !answer.status().is_success() && !self.is_own(answer.url()) {
            return Err(answer.silent());
        }
        let answer = answer.checked().await?;
        match answer.header(CONTENT_ENCODING) {
            None | Some("" | "identity") => Ok(answer),
            Some(other) => {
                let reason =
                    format!("the answer is encoded with {}, which nobody asked for", one_line(other));
                Err(Error::invalid(&answer.attempt, reason))
            }
        }
    }

    /// Whether a URL is of this host itself.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        let own = format!("{}://{}/", self.connections.scheme(&self.host), self.host.name);
        Url::parse(&own).is_ok_and(|own| same_server(&own, url))
    }

    /// The URL as it is asked for now: the host may have been found to speak HTTP only.
    fn current(&self, url: &Url) -> Url {
        let mut current = url.clone();
        if self.host.scheme == Scheme::Either && self.is_plain() && url.scheme() == "https" {
            let own = Url::parse(&format!("https://{}/", self.host.name));
            if own.is_ok_and(|own| same_server(&own, url)) && current.set_scheme("http").is_err() {
                return url.clone();
            }
        }
        current
    }

    /// How far it is certain who answers.
    fn channel(&self) -> Channel {
        match (self.is_plain(), self.host.insecure) {
            (true, _) => Channel::Plain,
            (false, true) => Channel::Unchecked,
            (false, false) => Channel::Checked,
        }
    }

    /// Whether what is asked of this host goes over plain HTTP.
    fn is_plain(&self) -> bool {
        self.connections.scheme(&self.host) == "http"
    }

    fn asking<'a>(&'a self, call: &'a Call, challenge: Option<&Challenge>) -> Asking<'a> {
        let mut scopes = Scopes::repository(&self.repository, self.access);
        if let Some(from) = &call.also_pull {
            scopes = scopes.and_pull(from);
        }
        let mut client = &self.connections.other;
        if let Some(Challenge::Bearer(bearer)) = challenge {
            scopes = scopes.with_challenge(&bearer.scope, &self.repository, self.access);
            let realm = Url::parse(&bearer.realm).ok();
            let realm = realm.as_ref().and_then(|realm| realm.host_str());
            if realm.is_some_and(|realm| bare_name(realm) == bare_name(&self.host.name)) {
                client = &self.connections.own;
            }
        }
        Asking {
            host: &self.host.name,
            repository: &self.repository,
            channel: self.channel(),
            scopes,
            group: &self.group,
            attempt: &call.attempt,
            client,
            limits: &self.inner.options.limits,
            user_agent: &self.inner.options.user_agent,
        }
    }

    /// What authorizes a request to a registry that is known to want that.
    async fn prepare(&self, call: &Call) -> Option<Shown> {
        let authorizer = &self.inner.authorizer;
        let place = Place::new(&self.host.name, &self.repository, self.channel());
        let challenge = authorizer.known(&place)?;
        let asking = self.asking(call, Some(&challenge));
        match authorizer.prepare(&asking, &challenge).await {
            Ok(shown) => Some(shown),
            Err(error) => {
                // The registry may want something else by now: it is asked again what.
                tracing::debug!("{error}");
                authorizer.forget(&place);
                None
            }
        }
    }

    /// Sends a request, and goes where the answer says if that is elsewhere. What authorizes it is for
    /// the host alone.
    async fn follow(
        &self,
        call: &Call,
        shown: Option<&Shown>,
        mut body: Option<Body>,
    ) -> Result<Answer, Error> {
        let may_follow = body.is_none() && matches!(call.method, Method::GET | Method::HEAD);
        let mut url = self.current(&call.url);
        for _ in 0..=MAX_HOPS {
            let answer = self.execute(call, &url, shown, body.take()).await?;
            if !may_follow || !answer.status().is_redirection() {
                return Ok(answer);
            }
            let Some(next) = answer.header(LOCATION).and_then(|location| url.join(location).ok()) else {
                return Err(Error::invalid(&call.attempt, "the registry sends us to nowhere"));
            };
            self.check_elsewhere(call, &next, call.by_digest)?;
            url = next;
        }
        Err(Error::invalid(&call.attempt, format!("stopped after {MAX_HOPS} redirects")))
    }

    /// Checks a place that a registry names. `may_be_plain` allows it to be less protected than the
    /// registry is.
    pub(crate) fn check_elsewhere(&self, call: &Call, url: &Url, may_be_plain: bool) -> Result<(), Error> {
        let refused = |reason: String| Err(Error::refused(&call.attempt, reason));
        match url.scheme() {
            "https" => {}
            "http" if may_be_plain || self.is_plain() || self.host.insecure => {}
            "http" => return refused(format!("not sent on to {} over plain HTTP", host_of(url))),
            other => return refused(format!("not sent on to a URL with the scheme {:?}", one_line(other))),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused(format!("not sent on to {} with a user in the URL", host_of(url)));
        }
        Ok(())
    }

    async fn execute(
        &self,
        call: &Call,
        url: &Url,
        shown: Option<&Shown>,
        body: Option<Body>,
    ) -> Result<Answer, Error> {
        let is_own = self.is_own(url);
        let client = if is_own { &self.connections.own } else { &self.connections.other };
        let is_stream = body.is_some();
        let request = |url: Url| {
            let options = &self.inner.options;
            let mut request = client
                .request(call.method.clone(), url)
                .header(USER_AGENT, &options.user_agent)
                .header(ACCEPT_ENCODING, "identity");
            for (name, value) in &call.headers {
                request = request.header(name.clone(), value.clone());
            }
            if let Some(shown) = shown.filter(|_| is_own) {
                request = request.header(AUTHORIZATION, shown.header.clone());
            }
            if let Some(body) = &call.body {
                request = request.body(body.clone());
            }
            request
        };
        // What is sent as a stream is watched by who sends it.
        let mut limits = self.inner.options.limits.clone();
        if is_stream {
            limits.answer = Duration::from_secs(7 * 24 * 3600);
        }
        let mut first = request(url.clone());
        if let Some(body) = body {
            first = first.body(body);
        }
        let sent = async {
            match first.send().await {
                Err(error)
                    if is_own
                        && !is_stream
                        && self.host.scheme == Scheme::Either
                        && url.scheme() == "https"
                        && speaks_http(&error, url) =>
                {
                    let mut plain = url.clone();
                    if plain.set_scheme("http").is_err() {
                        return Err(error);
                    }
                    let answer = request(plain).send().await?;
                    // One that is only down now is not taken to speak plain HTTP for ever.
                    self.connections.is_plain.store(true, Ordering::Relaxed);
                    Ok(answer)
                }
                result => result,
            }
        };
        Answer::of(call.attempt.clone(), &limits, sent).await
    }
}

/// Whether a host did not understand TLS, or listens on the port of HTTP only.
fn speaks_http(error: &reqwest::Error, url: &Url) -> bool {
    if !error.is_connect() {
        return false;
    }
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return matches!(tls, rustls::Error::InvalidMessage(_));
        }
        next = match error.downcast_ref::<std::io::Error>() {
            Some(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => return url.port().is_none(),
            // What is in it is not its source.
            Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    false
}
