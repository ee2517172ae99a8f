//! Tokens of registries (distribution's token authentication, and its OAuth2 form).

use std::time::Duration;

use buildkit_session_auth::{Credentials, Token, TokenRequest};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION, USER_AGENT};
use reqwest::{Client, Method, Url};
use serde::Deserialize;

use crate::answer::Answer;
use crate::error::{Attempt, Error};
use crate::hosts::{bare_name, host_of, is_local, same_server};
use crate::retry::Budget;
use crate::{Limits, one_line};

/// Bytes of an answer with a token.
const MAX_ANSWER: u64 = 1 << 20;
/// How often an answer may send us elsewhere.
const MAX_HOPS: usize = 5;
/// How long a token counts as good of which nobody said, in seconds.
const DEFAULT_EXPIRATION: i64 = 60;
/// What programs that ask for tokens are called.
pub(crate) const CLIENT_ID: &str = "buildkit-client";

/// Which realms that speak plain HTTP are shown credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlainRealms {
    /// None: the registry is asked over HTTPS.
    None,
    /// The registry's own host, and neighbours on this machine: it is not known how the registry is asked.
    SameHost,
    /// All: the registry itself is asked over plain HTTP.
    All,
}

/// Checks where a token is to come from.
///
/// # Errors
/// Why nothing is sent there.
pub(crate) fn check_realm(
    attempt: &Attempt,
    request: &TokenRequest,
    has_secret: bool,
    plain: PlainRealms,
) -> Result<Url, Error> {
    let refused = |reason: String| Error::refused(attempt, reason);
    let realm = Url::parse(&request.realm)
        .map_err(|error| refused(format!("invalid realm {:?}: {error}", one_line(&request.realm))))?;
    let host = host_of(&realm);
    if !realm.username().is_empty() || realm.password().is_some() {
        return Err(refused(format!("realm on {host} has a user in its URL")));
    }
    let same_host = realm.host_str().is_some_and(|name| bare_name(name) == bare_name(&request.host));
    let is_near = same_host || (is_local(&host) && is_local(&request.host));
    match (realm.scheme(), plain) {
        ("https", _) => {}
        ("http", _) if !has_secret => {}
        ("http", PlainRealms::All) => {}
        ("http", PlainRealms::SameHost) if is_near => {}
        ("http", _) => return Err(refused(format!("credentials are not sent to {host} over plain HTTP"))),
        (other, _) => return Err(refused(format!("realm with the scheme {other:?}"))),
    }
    if !same_host {
        tracing::info!(registry = %request.host, realm = %host, "tokens come from another host");
    }
    Ok(realm)
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

/// Asks a realm for a token.
pub(crate) struct Fetch<'a> {
    pub(crate) client: &'a Client,
    pub(crate) limits: &'a Limits,
    pub(crate) user_agent: &'a str,
    pub(crate) attempt: Attempt,
}

impl Fetch<'_> {
    /// With a user and a password, or an identity token, by POST; where that is not known, and without
    /// them, by GET.
    pub(crate) async fn token(
        &self,
        realm: &Url,
        request: &TokenRequest,
        user: &Credentials,
    ) -> Result<Token, Error> {
        if user.is_anonymous() {
            return self.get(realm, request, user).await;
        }
        match self.post(realm, request, user).await {
            // Of realms that know GET only, some say so, and some ask for a password.
            Err(error) if matches!(error.status(), Some(401 | 404 | 405)) && !user.username.is_empty() => {
                self.get(realm, request, user).await
            }
            result => result,
        }
    }

    async fn post(&self, realm: &Url, request: &TokenRequest, user: &Credentials) -> Result<Token, Error> {
        let mut form: Vec<(&str, &str)> = Vec::new();
        let scopes = request.scopes.join(" ");
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        form.extend([("service", request.service.as_str()), ("client_id", &request.client_id)]);
        if user.username.is_empty() {
            form.extend([("grant_type", "refresh_token"), ("refresh_token", &user.secret)]);
        } else {
            form.extend([("grant_type", "password"), ("username", &user.username)]);
            form.push(("password", &user.secret));
        }
        // The library writes queries in the form of forms.
        let mut encoded = realm.clone();
        encoded.query_pairs_mut().clear().extend_pairs(form);
        let body = encoded.query().unwrap_or_default().to_owned();
        self.ask(Method::POST, realm, None, Some(body)).await
    }

    async fn get(&self, realm: &Url, request: &TokenRequest, user: &Credentials) -> Result<Token, Error> {
        let mut url = realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if !request.service.is_empty() {
                query.append_pair("service", &request.service);
            }
            query.extend_pairs(request.scopes.iter().map(|scope| ("scope", scope)));
        }
        self.ask(Method::GET, &url, (!user.is_anonymous()).then_some(user), None).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        user: Option<&Credentials>,
        form: Option<String>,
    ) -> Result<Token, Error> {
        let mut budget = Budget::new(self.limits, Duration::ZERO);
        loop {
            match self.once(method.clone(), url, user, form.clone()).await {
                Ok(token) => return Ok(token),
                Err(error) => budget.again(error).await?,
            }
        }
    }

    async fn once(
        &self,
        method: Method,
        url: &Url,
        user: Option<&Credentials>,
        form: Option<String>,
    ) -> Result<Token, Error> {
        let mut url = url.clone();
        let has_secret = user.is_some() || form.is_some();
        for _ in 0..=MAX_HOPS {
            let mut request = self.client.request(method.clone(), url.clone());
            request = request.header(USER_AGENT, self.user_agent).header(ACCEPT, "application/json");
            if let Some(user) = user {
                request = request.basic_auth(&user.username, Some(&user.secret));
            }
            if let Some(form) = &form {
                request = request
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
                    .body(form.clone());
            }
            let answer = Answer::of(self.attempt.clone(), self.limits, request.send()).await?;
            if !answer.status().is_redirection() {
                return self.read(answer.checked().await?).await;
            }
            let next = answer.header(LOCATION).and_then(|location| url.join(location).ok());
            let Some(next) = next.filter(|next| matches!(next.scheme(), "http" | "https")) else {
                return Err(Error::invalid(&self.attempt, "the realm sends us to nowhere"));
            };
            let stays = same_server(&url, &next);
            if has_secret && (!stays || method != Method::GET) {
                let reason = format!("credentials are not sent on to {}", host_of(&next));
                return Err(Error::refused(&self.attempt, reason));
            }
            if !next.username().is_empty() || next.password().is_some() {
                return Err(Error::refused(&self.attempt, "the realm sends us to a URL with a user"));
            }
            url = next;
        }
        Err(Error::invalid(&self.attempt, "the realm sends us in a circle"))
    }

    async fn read(&self, answer: Answer) -> Result<Token, Error> {
        let bytes = answer.bytes(MAX_ANSWER).await?;
        let invalid = |reason: &str| Error::invalid(&self.attempt, reason);
        // What serde says would show what is in the answer.
        let body: Body =
            serde_json::from_slice(&bytes).map_err(|_| invalid("the answer with the token is no JSON"))?;
        let given = [body.access_token, body.token].into_iter().flatten().find(|token| !token.is_empty());
        let Some(token) = given else {
            return Err(invalid("authorization server did not include a token in the response"));
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a number that does not fit becomes one that does"
        )]
        let expires_in = body.expires_in.map_or(0, |seconds| seconds.clamp(0.0, 1e9) as i64);
        let expires_in = if expires_in == 0 { DEFAULT_EXPIRATION } else { expires_in };
        Ok(Token { token, expires_in, issued_at: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_15_no_secrets_over_plain_http() {
        use PlainRealms::{All, None, SameHost};
        for (host, realm, has_secret, plain, expect) in [
            ("reg.io", "https://auth.io/token", true, None, true),
            ("reg.io", "http://auth.io/token", true, None, false),
            ("reg.io", "http://reg.io/token", true, None, false),
            ("reg.io", "http://auth.io/token", false, None, true),
            ("reg.io", "http://auth.io/token", true, SameHost, false),
            ("reg.io:5000", "http://reg.io:5001/token", true, SameHost, true),
            ("reg.io", "http://reg.io.evil.io/token", true, SameHost, false),
            ("reg.io", "http://127.0.0.1/token", true, SameHost, false),
            ("localhost:5000", "http://127.0.0.1/token", true, SameHost, true),
            ("reg.io", "http://auth.io/token", true, All, true),
            ("reg.io", "https://me@auth.io/token", true, All, false),
            ("reg.io", "https://me:pass@auth.io/token", false, All, false),
            ("reg.io", "ftp://reg.io/token", false, All, false),
            ("reg.io", "token", false, All, false),
            ("reg.io", "", false, All, false),
        ] {
            let (host, realm) = (host.to_owned(), realm.to_owned());
            let request = TokenRequest { host, realm, ..TokenRequest::default() };
            let checked = check_realm(&Attempt::new("h", "x"), &request, has_secret, plain);
            assert_eq!(checked.is_ok(), expect, "{request:?} {has_secret} {plain:?}");
        }
    }
}
