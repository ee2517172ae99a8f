//! Records of builds: what they were, how they ended, their progress and their traces.
//!
//! [`BuildHistory::start`] notes a build; its [`Recording`] is told how it ended, and writes the record behind the
//! build's back: nobody who builds waits for it. Who asks for records waits for those that are being written, so that
//! a build that is over is always there. A record is a `BuildHistoryRecord` in a
//! [`MetadataStore`](buildkit_cache_metadata::MetadataStore); what is large is in blobs, of a content store that holds
//! nothing else. A blob stays as long as a record that has it.
//!
//! Formats are the original's (`solver/llbsolver/history`). Its traces are of spans that many parts of it and its
//! clients report; here they are made of the build's progress: a span for the build and one for each run of each step.
#![forbid(unsafe_code)]

mod error;
mod filter;
mod history;
mod listen;
mod logs;
mod recording;
mod redact;
mod replay;
mod store;
#[cfg(test)]
mod tests;
mod trace;

pub use error::Error;
pub use history::{BuildHistory, HistoryOptions, Retention};
pub use listen::Events;
pub use recording::{Delivered, DeliveredImage, NewBuild, Recording};
pub use replay::Replay;
pub use trace::TraceParent;

/// Media types of blobs.
pub mod media_type {
    /// `StatusResponse` messages, each behind its length in four bytes, the lowest first.
    pub const LOGS: &str = "application/vnd.buildkit.status.v0";
    /// Spans as JSON, one after the other.
    pub const TRACE: &str = "application/vnd.buildkit.otlp.json.v0";
    /// A `google.rpc.Status`. Misspelled, as the original has it.
    pub const ERROR: &str = "application/vnd.googeapis.google.rpc.status+proto";
}
