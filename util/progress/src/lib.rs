//! Progress of builds: vertices, statuses, logs and the bus that carries them.
//!
//! A [`Bus`] belongs to one build. Writers publish [`Event`]s without waiting; any number of
//! [`Subscription`]s read them at their own speed, from the first event on, however late they come.
#![forbid(unsafe_code)]

mod bus;
mod skipped;
mod types;
mod writer;

pub use bus::{Bus, Subscription};
pub use skipped::SkippedSteps;
pub use types::{
    Event, Interval, LogStream, Position, ProgressGroup, Range, SolveStatus, SourceInfo, Vertex, VertexLog,
    VertexStatus, VertexWarning,
};
pub use writer::{Part, Writer};
