//! Wire messages of the fsutil file transfer protocol.
#![forbid(unsafe_code)]

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/types.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;
