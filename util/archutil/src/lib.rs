//! Detects the platforms that this machine can run.
#![forbid(unsafe_code)]
