//! Layer archives: writes what changes between trees as tar, and applies such archives to a directory.
#![forbid(unsafe_code)]
