//! SSH agents and keys that a client offers to builds.
#![forbid(unsafe_code)]
