//! LLB wire types, their deterministic encoding and capability names.
#![forbid(unsafe_code)]
