//! Content store by digest in the shape of an OCI layout.
#![forbid(unsafe_code)]
