//! Parses names of images as people write them, and tells what they stand for.
//!
//! The grammar is that of <https://github.com/distribution/reference>, the normal form that of docker:
//! `busybox` is `docker.io/library/busybox:latest`.
#![forbid(unsafe_code)]

mod grammar;
mod reference;

pub use reference::{DEFAULT_DOMAIN, DEFAULT_TAG, ParseError, Reference};
