//! The LLBBridge service: messages, client and server.
#![forbid(unsafe_code)]

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/frontend.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;
