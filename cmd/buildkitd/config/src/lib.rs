//! Reads and checks buildkitd.toml.
#![forbid(unsafe_code)]
