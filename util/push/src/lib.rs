//! Pushes an image, its layers first, to a registry.
//!
//! What an index or manifest names is in the registry before it is itself, and the root comes last: who
//! pulls sees all of an image or nothing. Order and texts of progress: upstream `util/push`.
#![forbid(unsafe_code)]

mod error;
mod plan;
mod progress;
mod push;

pub use error::Error;
pub use push::{PushOptions, push};
