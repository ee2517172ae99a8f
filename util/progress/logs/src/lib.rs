//! Turns process output into progress logs within limits, never losing the tail.
//!
//! Output goes to the bus as it comes, up to a size and a speed per stream. What exceeds them is
//! clipped, with a line that says so, but the last part of a clipped stream is always delivered
//! when it ends: that is where errors are. Memory is bounded, and writing never waits.
#![forbid(unsafe_code)]

mod limits;
mod ring;
mod writer;

pub use limits::LogLimits;
pub use writer::LogWriter;
