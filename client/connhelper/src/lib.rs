//! Connects to a daemon by address scheme.
#![forbid(unsafe_code)]
