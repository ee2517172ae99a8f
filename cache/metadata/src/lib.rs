//! Embedded metadata store with bounded size that survives damage.
#![forbid(unsafe_code)]
