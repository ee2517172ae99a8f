//! Client of the build daemon: build, status, disk usage, prune.
#![forbid(unsafe_code)]
