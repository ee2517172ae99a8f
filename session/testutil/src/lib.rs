//! A connected pair of session ends for tests.
//!
//! The ends are the real ones, with HTTP/2 between them; only the byte stream is in memory. The
//! client's end can leave in order, or fall silent as a machine does that loses its power.
#![forbid(unsafe_code)]

mod gate;
mod pair;

pub use pair::{DEADLINE, SessionPair};
