//! Reads and limits container resources through cgroups.
#![forbid(unsafe_code)]
