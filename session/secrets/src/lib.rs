//! Port of secret look-up and its session service.
#![forbid(unsafe_code)]
