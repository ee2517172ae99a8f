//! Error vocabulary shared by all crates: whose fault an error is and how it maps to gRPC codes.
//!
//! Every crate has one `Error` enum that implements [`Classify`]. Exit codes, gRPC codes, retries
//! and blame are derived from the [`Kind`] only, never from an error's text.
#![forbid(unsafe_code)]

mod kind;

pub use kind::{BoxError, Classify, Kind};
