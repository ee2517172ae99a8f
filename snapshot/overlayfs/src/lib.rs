//! Snapshots on overlayfs.
//!
//! A snapshot keeps what changes from its parent in `snapshots/<number>/fs`, and the kernel's work
//! directory beside it. One without a parent is a plain directory.
#![forbid(unsafe_code)]

mod backend;

pub use backend::{OverlayBackend, OverlaySnapshotter, is_supported, open};
