//! Names and checks the privileges that a build may be granted.
#![forbid(unsafe_code)]
