//! Routes bridge calls on the main socket to the build that they belong to.
//!
//! Clients drive their builds over the `LLBBridge` service of the daemon's own socket; metadata names
//! the build (upstream `control/gateway`, `client/buildid`).
#![forbid(unsafe_code)]

mod builds;
mod service;

pub use builds::{ActiveBuilds, Registration};
pub use service::GatewayService;
