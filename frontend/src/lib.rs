//! Port of frontends and the bridge that they solve through.
#![forbid(unsafe_code)]
