//! Pushes an image, its layers first, to a registry.
#![forbid(unsafe_code)]
