use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_session_auth::{CredentialProvider, Credentials, ProviderError, Token, TokenRequest, TokenSeed};
use buildkit_util_appcontext as tasks;
use buildkit_util_gotext::parse_bool;

use crate::seeds::Seeds;
use crate::{AuthConfig, DockerConfig, Error};

/// How long an answer is used again; some stores give passwords that are good for five minutes.
const KEPT: Duration = Duration::from_secs(4 * 60 + 50);
/// How long a token counts as good of which nobody said, in seconds.
const DEFAULT_EXPIRATION: i64 = 60;
/// Tells that tokens are not to be fetched here.
const NO_TOKENS: &str = "BUILDKIT_NO_CLIENT_TOKEN";

/// Speaks to registries.
#[async_trait]
pub trait TokenFetcher: Send + Sync + 'static {
    /// Fetches a token with these credentials.
    async fn fetch(&self, request: &TokenRequest, credentials: &Credentials) -> Result<Token, ProviderError>;
}

/// The credentials of a docker configuration.
pub struct DockerAuth {
    config: DockerConfig,
    /// Gate, closed while a program is asked: some hang when asked twice at a time.
    kept: tokio::sync::Mutex<HashMap<String, (Instant, AuthConfig)>>,
    seeds: Arc<Seeds>,
    fetcher: Option<Arc<dyn TokenFetcher>>,
    no_tokens: bool,
}

impl DockerAuth {
    /// Offers a configuration; `variable` reads the environment.
    ///
    /// Without a `fetcher` only tokens that stand in the configuration are given out, and daemons ask
    /// for the credentials of other registries instead.
    pub fn new(
        config: DockerConfig,
        fetcher: Option<Arc<dyn TokenFetcher>>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let no_tokens = variable(NO_TOKENS).and_then(|text| parse_bool(&text)).unwrap_or_default();
        let seeds = Arc::new(Seeds::new(config.dir()));
        Self { config, kept: tokio::sync::Mutex::default(), seeds, fetcher, no_tokens }
    }

    async fn auth(&self, host: &str) -> Result<AuthConfig, Error> {
        let mut kept = self.kept.lock().await;
        if let Some((since, found)) = kept.get(host)
            && since.elapsed() <= KEPT
        {
            return Ok(found.clone());
        }
        let found = self.config.get(host).await?;
        kept.insert(host.to_owned(), (Instant::now(), found.clone()));
        Ok(found)
    }
}

fn of(auth: AuthConfig) -> Credentials {
    if auth.identity_token.is_empty() {
        Credentials { username: auth.username, secret: auth.password }
    } else {
        Credentials { username: String::new(), secret: auth.identity_token }
    }
}

#[async_trait]
impl CredentialProvider for DockerAuth {
    async fn credentials(&self, host: &str) -> Result<Credentials, ProviderError> {
        Ok(of(self.auth(host).await?))
    }

    async fn fetch_token(&self, request: &TokenRequest) -> Result<Token, ProviderError> {
        let auth = self.auth(&request.host).await?;
        if !auth.registry_token.is_empty() {
            let token = auth.registry_token;
            return Ok(Token { token, expires_in: DEFAULT_EXPIRATION, issued_at: 0 });
        }
        match &self.fetcher {
            Some(fetcher) => fetcher.fetch(request, &of(auth)).await,
            None => Err(Error::NoFetcher(request.host.clone()).into()),
        }
    }

    async fn token_seed(&self, host: &str) -> Result<TokenSeed, ProviderError> {
        if self.no_tokens {
            return Err(ProviderError::NoTokens);
        }
        let auth = self.auth(host).await?;
        if self.fetcher.is_none() && auth.registry_token.is_empty() {
            return Err(ProviderError::NoTokens);
        }
        if of(auth).is_anonymous() {
            return Ok(TokenSeed(Vec::new()));
        }
        let (seeds, host) = (self.seeds.clone(), host.to_owned());
        let seed = tasks::spawn_blocking(move || seeds.get(&host))
            .await
            .map_err(|error| ProviderError::Store { kind: Kind::Internal, source: Box::new(error) })??;
        Ok(TokenSeed(seed))
    }
}
