//! Port of exporters: deliver a result.
#![forbid(unsafe_code)]
