//! Port of registry credentials and its session service.
//!
//! Protocol: upstream `session/auth`. The daemon may ask a client for a password
//! ([`credentials`]), or leave the password with the client and ask for a token
//! ([`fetch_token`]). A token that one client fetched may serve another that could have fetched
//! it too: [`token_authority`] gives the public half of a key that only clients with the same
//! secret can make, and [`verify_token_authority`] has a client prove that it can.
#![forbid(unsafe_code)]

mod authority;
mod daemon;
mod error;
mod port;
mod service;

pub use authority::{AuthorityKey, PublicKey, Salt};
pub use daemon::{credentials, fetch_token, token_authority, verify_token_authority};
pub use error::{Error, Request};
pub use port::{CredentialProvider, Credentials, ProviderError, Token, TokenRequest, TokenSeed};
pub use service::AuthService;
