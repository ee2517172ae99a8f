//! Port of frontends and the bridge that they solve through.
#![forbid(unsafe_code)]

mod port;

pub use port::{
    BridgeError, CacheImport, FailedState, Frontend, FrontendRegistry, FrontendResult, LlbBridge, Reference,
    SolveRequest,
};
