//! Fluent typed builder of LLB definitions.
#![forbid(unsafe_code)]
