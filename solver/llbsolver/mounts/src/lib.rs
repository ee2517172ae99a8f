//! Prepares the mounts of an exec: refs, caches, secrets, agents and tmpfs.
#![forbid(unsafe_code)]
