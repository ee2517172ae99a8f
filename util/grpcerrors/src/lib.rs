//! Carries typed errors over gRPC in upstream's form.
//!
//! Upstream (`util/grpcerrors`) puts typed details into `google.rpc.Status.details` as
//! `Any{type_url: "github.com/moby/buildkit/NAME+json", value: Go's JSON of the message}`: JSON, not
//! protobuf. [`RemoteError`] is such an error as plain data; details that are not known here are
//! kept and relayed as they came.
#![forbid(unsafe_code)]

mod remote;

pub use remote::{Detail, RemoteError};

/// Messages of package `google.rpc`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod rpc {
    include!("generated/rpc.rs");
}

/// Messages of package `stack`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod stack {
    include!("generated/stack.rs");
}
