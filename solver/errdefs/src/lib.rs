//! Typed details of solve errors that clients match on.
//!
//! Which types there are and how they are encoded: upstream `solver/errdefs`,
//! `frontend/gateway/pb/exit.go`. The functions make and read [`Detail`]s of a
//! [`RemoteError`](buildkit_util_grpcerrors::RemoteError).
#![forbid(unsafe_code)]

mod details;
mod excerpt;

pub use details::{
    Detail, ParsedDetail, Subject, compatibility_feature, exit, frontend_cap, parse, solve, source, sources,
    subrequest, vertex,
};
pub use excerpt::excerpt;

/// Messages of package `errdefs`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    include!("generated/errdefs.rs");
}
