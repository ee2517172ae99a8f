//! Negotiates capabilities between clients, frontends and the daemon.
#![forbid(unsafe_code)]

/// Messages of package `moby.buildkit.v1.apicaps`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    include!("generated/apicaps.rs");
}
