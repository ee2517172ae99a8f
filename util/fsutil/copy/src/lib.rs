//! Copies files and trees with all metadata, confined to a root.
#![forbid(unsafe_code)]
