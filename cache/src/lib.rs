//! Cached file trees: refs, records, usage and garbage collection.
#![forbid(unsafe_code)]
