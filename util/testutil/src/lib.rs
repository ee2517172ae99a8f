//! End-to-end test harness: daemons, registries, base images and a census of leftovers.
#![forbid(unsafe_code)]
