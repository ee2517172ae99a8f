//! Reads overlay mounts and lists what an upper directory changes.
#![forbid(unsafe_code)]
