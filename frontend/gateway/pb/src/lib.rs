//! The LLBBridge service: messages, client and server.
#![forbid(unsafe_code)]

pub mod caps;
pub mod meta;
pub mod results;

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/frontend.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;

/// Metadata key of the id of the build that a call on a daemon's own socket belongs to.
pub const BUILD_ID_KEY: &str = "buildkit-controlapi-buildid";

/// Exit code that stands for "not known": the process did not start, or its status was lost.
pub const UNKNOWN_EXIT_STATUS: u32 = 255;
