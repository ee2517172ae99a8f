//! The bridge of a build for frontends outside of the daemon, over gRPC.
//!
//! [`GrpcClient`] is the [`GatewayClient`](buildkit_frontend_gateway_client::GatewayClient) over the `LLBBridge`
//! service: on a daemon's own socket, for a build that its client drives ([`Settings::build_id`] names it), or on standard
//! input and output of a container that a frontend runs in ([`run_from_environment`]). It asks older daemons only what
//! they know. Behaviour follows upstream `frontend/gateway/grpcclient`.
#![forbid(unsafe_code)]

mod bridge;
mod client;
mod environment;
mod reference;
mod run;

pub use bridge::BUILD_ID_KEY;
pub use client::{GrpcClient, Settings};
pub use environment::{connect, run_from_environment, settings_of};
