//! Typed details of solve errors that clients match on.
#![forbid(unsafe_code)]

/// Messages of package `errdefs`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    include!("generated/errdefs.rs");
}
