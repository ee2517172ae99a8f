use std::collections::{BTreeMap, HashMap};

use buildkit_session_auth::{Credentials, Token, TokenRequest};
use parking_lot::Mutex;
use reqwest::Client;

use crate::error::{Attempt, Error};
use crate::registries::realm_client;
use crate::tls::TlsFiles;
use crate::token::{Fetch, PlainRealms, check_realm};
use crate::{Limits, one_line};

/// Registries whose connections are kept.
const MAX_HOSTS: usize = 256;

/// Fetches tokens where the credentials are: on a client's machine, which does not speak to registries
/// otherwise.
pub struct TokenClient {
    user_agent: String,
    limits: Limits,
    /// TLS by registry.
    tls: BTreeMap<String, TlsFiles>,
    /// By registry, none for all that have no TLS of their own.
    clients: Mutex<HashMap<Option<String>, Client>>,
}

impl TokenClient {
    /// With TLS towards the realms of some registries. Its files are read when they are needed.
    pub fn new(user_agent: impl Into<String>, tls: BTreeMap<String, TlsFiles>, limits: Limits) -> Self {
        Self { user_agent: user_agent.into(), limits, tls, clients: Mutex::default() }
    }

    /// Fetches a token with these credentials, or one for anybody. They go to the realm that the request
    /// names and nowhere else, and not over plain HTTP to another host than the registry's own.
    ///
    /// # Errors
    /// What the realm says, or why it is not asked.
    pub async fn fetch(&self, request: &TokenRequest, user: &Credentials) -> Result<Token, Error> {
        let kind = if user.is_anonymous() { "anonymous token" } else { "oauth token" };
        let scopes = one_line(&request.scopes.join(" "));
        let attempt = Attempt::new(one_line(&request.host), format!("fetch {kind} for {scopes}"));
        // Whether the registry itself speaks plain HTTP is known to the daemon, which asked it.
        let realm = check_realm(&attempt, request, !user.is_anonymous(), PlainRealms::SameHost)?;
        let client = self.client(&request.host).await?;
        let fetch = Fetch { client: &client, limits: &self.limits, user_agent: &self.user_agent, attempt };
        fetch.token(&realm, request, user).await
    }

    async fn client(&self, host: &str) -> Result<Client, Error> {
        let key = self.tls.contains_key(host).then(|| host.to_owned());
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let files = self.tls.get(host).cloned().unwrap_or_default();
        let client = realm_client(files, self.limits.connect).await;
        let client = client.map_err(|reason| Error::Config { host: host.to_owned(), reason })?;
        let mut clients = self.clients.lock();
        if clients.len() >= MAX_HOSTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}
