//! LLB wire types, their deterministic encoding and capability names.
#![forbid(unsafe_code)]

pub mod attr;
pub mod caps;
mod consts;
mod encode;
pub mod map;
mod platform;

pub use consts::{
    EMPTY_INPUT, LLB_BUILDER, LLB_DEFAULT_DEFINITION_FILE, LLB_DEFINITION_INPUT, ROOT_MOUNT,
    SKIP_OUTPUT,
};

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/pb.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;
