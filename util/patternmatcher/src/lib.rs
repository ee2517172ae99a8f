//! Matches paths against .dockerignore patterns with moby's semantics.
#![forbid(unsafe_code)]
