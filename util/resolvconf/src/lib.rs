//! Generates resolv.conf for containers.
#![forbid(unsafe_code)]
