//! What frontends are written against: the bridge of a build, wherever the frontend runs.
//!
//! A frontend is a [`BuildFunction`]: it is given a [`GatewayClient`], reads the options and files of its
//! user with it, solves graphs through it and returns a [`GatewayResult`]. It neither knows nor cares whether it
//! runs in the daemon (`frontend/gateway/forwarder`), in a container, or in the client's own process
//! (`frontend/gateway/grpcclient`).
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use buildkit_frontend_gateway_client::{
//!     BuildFunction, GatewayClient, GatewayResult, ReadFile, RemoteError, SolveRequest,
//! };
//!
//! /// Builds the graph that a file in the client's folder holds.
//! struct Prebuilt;
//!
//! #[async_trait]
//! impl BuildFunction for Prebuilt {
//!     async fn build(&self, client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError> {
//!         let inputs = client.inputs().await?;
//!         let context = inputs.get("context").cloned();
//!         let context = client.solve(SolveRequest { definition: context, ..SolveRequest::default() }).await?;
//!         for tree in context.iter() {
//!             tree.read_file(ReadFile::whole("graph")).await?;
//!         }
//!         Ok(context)
//!     }
//! }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod client;
mod options;
mod reference;
mod request;

pub use buildkit_client_llb_sourceresolver::{GitMeta, HttpMeta, ImageMeta, MetaRequest, MetaResponse};
pub use buildkit_util_fsutil_types::Stat;
pub use buildkit_util_grpcerrors::RemoteError;
pub use buildkit_util_progress::VertexWarning as Warning;
pub use client::{BuildFunction, GatewayClient, GatewayResult};
pub use options::{BuildOpts, WorkerInfo};
pub use reference::{FileRange, GatewayRef, ReadDir, ReadFile};
pub use request::{CacheImport, ImageConfig, ImageConfigError, SolveRequest};
