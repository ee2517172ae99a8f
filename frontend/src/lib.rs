//! Port of frontends and the bridge that they solve through.
#![forbid(unsafe_code)]

mod port;

pub use buildkit_frontend_gateway_client::{CacheImport, SolveRequest, WorkerInfo};
pub use port::{
    BridgeError, BridgeInfo, FailedState, Frontend, FrontendRegistry, FrontendResult, LlbBridge, Reference,
};
