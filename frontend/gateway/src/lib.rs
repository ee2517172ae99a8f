//! Serves the bridge of one build to the client or frontend that drives it.
//!
//! A [`BridgeForwarder`] turns the messages of the `LLBBridge` service into calls of the build's
//! [`LlbBridge`](buildkit_frontend::LlbBridge), and ends with the result that the driver returns. Behaviour follows upstream `frontend/gateway/gateway.go`.
#![forbid(unsafe_code)]

mod forwarder;
mod returned;

pub use forwarder::{BridgeForwarder, ForwarderOptions};
