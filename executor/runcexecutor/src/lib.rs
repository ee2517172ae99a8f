//! Runs containers with runc or a compatible runtime.
#![forbid(unsafe_code)]
