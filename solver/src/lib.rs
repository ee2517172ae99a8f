//! Concurrent scheduler of content-addressed build graphs with a cache of keys.
#![forbid(unsafe_code)]
