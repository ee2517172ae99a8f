//! Snapshots as plain copies on any file system.
//!
//! Every snapshot is a whole tree in `snapshots/<number>/fs`, shared with its parent as far as the
//! file system shares copies.
#![forbid(unsafe_code)]

mod backend;

pub use backend::{NativeBackend, NativeSnapshotter, open};
