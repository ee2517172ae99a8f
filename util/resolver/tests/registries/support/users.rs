//! Clients with credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use buildkit_session::{SessionManager, SessionServer};
use buildkit_session_auth::{
    AuthService, CredentialProvider, Credentials, ProviderError, Token, TokenRequest, TokenSeed,
};
use buildkit_util_appcontext::{TaskGuard, spawn};
use parking_lot::Mutex;

/// One user, the same at all registries.
#[derive(Default)]
pub struct Users {
    pub user: Credentials,
    /// Fetches no tokens.
    pub no_tokens: bool,
    /// Tokens that were fetched by this client.
    pub fetched: AtomicUsize,
    pub asked: Mutex<Vec<TokenRequest>>,
}

impl Users {
    pub fn new(username: &str, secret: &str) -> Self {
        let user = Credentials { username: username.to_owned(), secret: secret.to_owned() };
        Self { user, ..Self::default() }
    }

    pub fn without_tokens(username: &str, secret: &str) -> Self {
        Self { no_tokens: true, ..Self::new(username, secret) }
    }
}

#[async_trait]
impl CredentialProvider for Users {
    async fn credentials(&self, _: &str) -> Result<Credentials, ProviderError> {
        Ok(self.user.clone())
    }

    async fn fetch_token(&self, request: &TokenRequest) -> Result<Token, ProviderError> {
        let count = self.fetched.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().push(request.clone());
        // The mock knows whose a token is.
        let token = format!("{}.{}.{count}", self.user.username, request.scopes.join("+"));
        Ok(Token { token, expires_in: 300, issued_at: 0 })
    }

    async fn token_seed(&self, _: &str) -> Result<TokenSeed, ProviderError> {
        if self.no_tokens {
            return Err(ProviderError::NoTokens);
        }
        Ok(TokenSeed(self.user.secret.clone().into_bytes()))
    }
}

/// A session of a client; it ends with the guards.
pub struct Session {
    pub id: String,
    _tasks: [TaskGuard<()>; 2],
}

/// Opens a session of a client at a manager.
pub async fn open(manager: &SessionManager, users: Arc<Users>) -> Session {
    let mut server = SessionServer::new("").await;
    server.allow(AuthService::server(users), AuthService::METHODS);
    let headers = server.headers();
    let id = server.id().to_owned();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let daemon = spawn({
        let manager = manager.clone();
        async move { manager.serve(ours, headers).await.expect("the session opens") }
    });
    let client = spawn(async move { drop(server.serve(theirs).await) });
    manager.get(&id, std::time::Duration::from_secs(60)).await.expect("the session appears");
    Session { id, _tasks: [client, daemon] }
}
