//! Reads and updates the index of an OCI image layout.
#![forbid(unsafe_code)]
