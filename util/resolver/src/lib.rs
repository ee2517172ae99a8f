//! Registry client: hosts and mirrors, authentication through sessions, retries, pulls and pushes.
//!
//! [`Registries`] is made once for a daemon, [`Registries::repository`] once for each use of a name. What
//! registries answer is hostile until it is verified: bodies have limits, digests are checked, and
//! what authorizes a request goes to the host that it is for and nowhere else, whatever a redirect, a
//! place of an upload, a realm or the URL of a layer says.
//!
//! Protocol: the distribution specification 1.1 of OCI, and the token specification of the
//! distribution registry. Order of hosts, defaults and what clients are asked: upstream `util/resolver`.
#![forbid(unsafe_code)]

mod answer;
mod authorizer;
mod blobs;
mod body;
pub mod challenge;
mod config;
mod error;
mod hosts;
mod identity;
mod limited;
mod link;
mod mount;
mod registries;
mod repository;
mod resolve;
mod retry;
mod scope;
mod tls;
mod token;
mod token_client;
mod upload;
mod walk;

pub use config::{Access, KeyPair, Limits, RegistryConfig, RegistryOptions};
use error::one_line;
pub use error::{Attempt, Error, Said};
pub use registries::Registries;
pub use repository::Repository;
pub use resolve::Resolved;
pub use tls::TlsFiles;
pub use token_client::TokenClient;
pub use upload::Pushed;
