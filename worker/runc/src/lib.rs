//! The OCI worker: local snapshots and an OCI runtime.
//!
//! State below the daemon's root, in a directory named after the snapshotter: `snapshots`, `content` (blobs), `metadata`
//! (records of the cache), `mounts` (mounts of this process), `executor` (containers) and `workerid`.
#![forbid(unsafe_code)]

mod error;
mod open;
mod worker;

pub use error::Error;
pub use open::{RuncWorkerOptions, open};
pub use worker::RuncWorker;
