//! The OCI worker: local snapshots and an OCI runtime.
#![forbid(unsafe_code)]
