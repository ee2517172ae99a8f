//! LLB wire types, their deterministic encoding and capability names.
#![forbid(unsafe_code)]

pub mod attr;
mod canonical;
pub mod caps;
mod consts;
mod encode;
mod error;
pub mod json;
pub mod map;
mod platform;
mod raw;
#[cfg(test)]
mod vectors;
mod wire;

pub use consts::{
    EMPTY_INPUT, LLB_BUILDER, LLB_DEFAULT_DEFINITION_FILE, LLB_DEFINITION_INPUT, ROOT_MOUNT, SKIP_OUTPUT,
};
pub use error::Error;
pub use raw::RawOp;
#[cfg(any(test, feature = "test-util"))]
pub use raw::fuzz_raw_op;

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/pb.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;
