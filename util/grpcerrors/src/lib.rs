//! Carries typed errors over gRPC in upstream's form.
#![forbid(unsafe_code)]

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
