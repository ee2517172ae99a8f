//! Port of secret look-up and its session service.
//!
//! Protocol: upstream `session/secrets`. A secret is at most [`MAX_SECRET_SIZE`] bytes; it is held in
//! memory only.
#![forbid(unsafe_code)]

mod port;
mod service;

pub use port::{Error, MAX_SECRET_SIZE, SecretStore, get_secret};
pub use service::SecretsService;
