//! Snapshots on overlayfs.
#![forbid(unsafe_code)]
