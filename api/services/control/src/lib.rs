//! The Control service: messages, client and server.
#![forbid(unsafe_code)]

/// Progress between its domain types and [`StatusResponse`].
pub mod status;

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/control.rs");
}

// All names are generated, so there is no list to keep.
pub use generated::*;

/// An encoded `google.protobuf.FileDescriptorSet` of every message and service
/// of this workspace, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
