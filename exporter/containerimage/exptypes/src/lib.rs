//! Options and metadata keys of image exporters.
#![forbid(unsafe_code)]
