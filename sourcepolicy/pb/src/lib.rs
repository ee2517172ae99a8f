//! Wire types of source policies.
#![forbid(unsafe_code)]
