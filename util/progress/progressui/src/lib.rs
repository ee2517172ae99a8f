//! Shows build progress on a terminal, as plain text or as JSON.
//!
//! [`Display`] takes [`SolveStatus`](buildkit_util_progress::SolveStatus) messages and writes in one
//! of the [`Mode`]s; [`Display::run`] does so until a stream of messages ends. What is shown is the
//! format that people and scripts know from the original.
#![forbid(unsafe_code)]

mod display;
mod error;
mod format;
mod interval;
mod json;
mod plain;
mod settings;
#[cfg(test)]
mod snapshots;
mod trace;
mod tty;

pub use display::{Display, Mode, Terminal};
pub use error::Error;
pub use json::to_json;
pub use settings::{Colors, Settings};
