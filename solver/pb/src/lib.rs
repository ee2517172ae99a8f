//! LLB wire types, their deterministic encoding and capability names.
#![forbid(unsafe_code)]

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/pb.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;
