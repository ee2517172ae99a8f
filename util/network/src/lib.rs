//! Network modes of containers and their providers.
#![forbid(unsafe_code)]
