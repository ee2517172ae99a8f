//! Client of the build daemon: build, status, disk usage, prune.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use buildkit_client::{BuildRequest, Client, Export};
//! use buildkit_client::llb::{MarshalOptions, mkfile, scratch};
//!
//! let client = Client::connect(&"unix:///run/buildkit/buildkitd.sock".parse()?, None).await?;
//! let state = scratch().file(mkfile("/hello", 0o644, "hello\n"));
//! let mut request = BuildRequest::of(state.marshal(&MarshalOptions::new())?);
//! request.exports.push(Export::directory("local", "out"));
//! let (progress, _unwatched) = tokio::sync::mpsc::channel(16);
//! client.build(request, progress, Default::default()).await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod attach;
mod blobs;
mod build;
mod client;
mod error;
mod history;
mod one_solve;
mod request;
mod stores;

pub use buildkit_client_connhelper::{Address, Tls};
pub use buildkit_client_llb as llb;
pub use buildkit_frontend_gateway_client as gateway;
pub use client::{Client, PruneOptions};
pub use error::{Error, Result};
pub use history::HistoryEvents;
pub use request::{Attach, BuildRequest, BuildResponse, CacheOption, Export, ExportTarget, Frontend};
