//! Registry credentials of the user's docker configuration.
//!
//! The formats and the order in which places are looked at are those of the docker command line
//! (`cli/config`), and of upstream's `session/auth/authprovider` for the seeds of tokens.
#![forbid(unsafe_code)]

mod config;
mod error;
mod fetcher;
mod helper;
mod provider;
mod seeds;

pub use config::{AuthConfig, DockerConfig};
pub use error::Error;
pub use fetcher::HttpTokens;
pub use provider::{DockerAuth, TokenFetcher};
