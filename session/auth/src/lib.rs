//! Port of registry credentials and its session service.
#![forbid(unsafe_code)]
