//! Negotiates capabilities between clients, frontends and the daemon.
#![forbid(unsafe_code)]

mod error;
mod list;

pub use error::CapError;
pub use list::{Cap, CapList, CapSet, Status};

/// Messages of package `moby.buildkit.v1.apicaps`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    include!("generated/apicaps.rs");
}
