//! Builds OCI runtime specifications for build containers.
#![forbid(unsafe_code)]
