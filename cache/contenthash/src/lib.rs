//! Content checksums of paths in cached trees.
#![forbid(unsafe_code)]
