//! Random identifiers for builds, sessions, refs and snapshots.
#![forbid(unsafe_code)]
