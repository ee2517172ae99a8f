//! The LLB operations: source, exec, file, merge, diff, build and passthrough.
#![forbid(unsafe_code)]
