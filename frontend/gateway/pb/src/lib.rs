//! The LLBBridge service: messages, client and server.
#![forbid(unsafe_code)]

pub mod caps;
pub mod results;

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/frontend.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;

/// Exit code that stands for "not known": the process did not start, or its status was lost.
pub const UNKNOWN_EXIT_STATUS: u32 = 255;
