use std::fmt;

use async_trait::async_trait;
use buildkit_errdefs::{BoxError, Classify, Kind};

/// What a registry is told to believe that a request is a user's.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Name of the user; empty with a secret that is an identity token.
    pub username: String,
    /// Password or identity token; empty for anonymous access.
    pub secret: String,
}

impl Credentials {
    /// Whether there are none.
    pub fn is_anonymous(&self) -> bool {
        self.secret.is_empty()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.secret.is_empty() { "" } else { "***" };
        f.debug_struct("Credentials").field("username", &self.username).field("secret", &secret).finish()
    }
}

/// A token that is wanted: what a registry's challenge said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// Name of the program that asks.
    pub client_id: String,
    /// Host of the registry, with its port if it has one.
    pub host: String,
    /// URL that gives tokens.
    pub realm: String,
    /// Name that the registry has there.
    pub service: String,
    /// What the token is to be good for.
    pub scopes: Vec<String>,
}

/// A bearer token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub token: String,
    /// How long it is good, in seconds.
    pub expires_in: i64,
    /// Since when, in seconds since 1970; 0 is not known.
    pub issued_at: i64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("token", &"***")
            .field("expires_in", &self.expires_in)
            .field("issued_at", &self.issued_at)
            .finish()
    }
}

/// Random bytes that a client keeps for each registry to which it has a secret; empty for those to
/// which it has none, so that all clients share what is anonymous.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSeed(pub Vec<u8>);

impl fmt::Debug for TokenSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "TokenSeed()" } else { "TokenSeed(***)" })
    }
}

/// Why a provider has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// Tokens are not this client's business: the daemon is to ask for credentials and fetch them
    /// itself.
    #[error("client side tokens disabled")]
    NoTokens,
    /// A program that keeps credentials failed, or a file could not be read.
    #[error("{source}")]
    Store {
        /// Whose fault that is.
        kind: Kind,
        /// What happened.
        source: BoxError,
    },
}

impl Classify for ProviderError {
    fn kind(&self) -> Kind {
        match self {
            // What daemons take as a sign to go on without.
            Self::NoTokens => Kind::Unavailable,
            Self::Store { kind, .. } => *kind,
        }
    }
}

/// Credentials of a client's user.
#[async_trait]
pub trait CredentialProvider: Send + Sync + 'static {
    /// Credentials for a registry; empty ones when there are none.
    async fn credentials(&self, host: &str) -> Result<Credentials, ProviderError>;

    /// Fetches a token from a registry.
    async fn fetch_token(&self, request: &TokenRequest) -> Result<Token, ProviderError>;

    /// The seed of the key that stands for the user at a registry.
    ///
    /// # Errors
    /// [`ProviderError::NoTokens`] from a provider whose [`Self::fetch_token`] would fail, since daemons
    /// that are given a key ask for tokens only.
    async fn token_seed(&self, host: &str) -> Result<TokenSeed, ProviderError>;
}
