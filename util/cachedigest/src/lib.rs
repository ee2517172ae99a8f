//! Content digests and the preimages that explain cache keys.
#![forbid(unsafe_code)]
