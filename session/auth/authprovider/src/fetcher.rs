use async_trait::async_trait;
use buildkit_errdefs::Classify as _;
use buildkit_session_auth::{Credentials, ProviderError, Token, TokenRequest};
use buildkit_util_resolver::TokenClient;

use crate::TokenFetcher;

/// Asks the servers that registries name for tokens.
pub struct HttpTokens(TokenClient);

impl HttpTokens {
    /// Over these connections.
    pub fn new(client: TokenClient) -> Self {
        Self(client)
    }
}

#[async_trait]
impl TokenFetcher for HttpTokens {
    async fn fetch(&self, request: &TokenRequest, credentials: &Credentials) -> Result<Token, ProviderError> {
        self.0.fetch(request, credentials).await.map_err(|error| {
            let what = if credentials.is_anonymous() { "anonymous token" } else { "oauth token" };
            // Upstream's words.
            let text = format!("failed to fetch {what}: {error}");
            ProviderError::Store { kind: error.kind(), source: text.into() }
        })
    }
}
