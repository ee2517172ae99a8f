//! The OTLP trace service: messages, client and server.
#![forbid(unsafe_code)]

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/trace.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;
