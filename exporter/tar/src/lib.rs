//! Delivers results as one tar stream.
#![forbid(unsafe_code)]
