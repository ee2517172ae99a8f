//! Snapshots as plain copies on any file system.
#![forbid(unsafe_code)]
