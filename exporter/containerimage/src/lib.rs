//! Composes images and pushes them to registries.
#![forbid(unsafe_code)]
