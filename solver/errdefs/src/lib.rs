//! Typed details of solve errors that clients match on.
#![forbid(unsafe_code)]
