//! Runs frontends in the daemon: the bridge of a build as they see it.
//!
//! [`BridgeClient`] is the [`GatewayClient`](buildkit_frontend_gateway_client::GatewayClient) over the
//! [`LlbBridge`](buildkit_frontend::LlbBridge) of a build: it keeps the refs that it handed out, and mounts them when
//! somebody looks into one. [`ForwardedFrontend`] makes a frontend of the daemon of a function that is written against
//! that interface. Behaviour follows upstream `frontend/gateway/forwarder`.
#![forbid(unsafe_code)]

mod client;
mod files;
mod frontend;
mod reference;
mod refs;

pub use client::BridgeClient;
pub use frontend::ForwardedFrontend;
