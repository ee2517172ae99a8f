//! Carries a session through the Control.Session stream.
//!
//! Each `BytesMessage` is a piece of one byte stream, cut anywhere; the end of the messages is the
//! end of that direction (upstream `session/grpchijack`).
#![forbid(unsafe_code)]

mod client;
mod server;
mod tunnel;

pub use client::{Error, open};
pub use server::{SessionStream, serve};
