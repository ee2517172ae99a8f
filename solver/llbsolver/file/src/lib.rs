//! Performs file operations on mounted refs, confined to their roots.
#![forbid(unsafe_code)]
