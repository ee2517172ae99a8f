//! Port of workers in roles, and the controller that holds them.
#![forbid(unsafe_code)]

mod controller;
mod port;

pub use controller::{Error, WorkerController};
pub use port::{Worker, WorkerInfo, label};
