//! Persistent store of cache keys.
#![forbid(unsafe_code)]
