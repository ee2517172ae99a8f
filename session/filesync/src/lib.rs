//! Transfers directories and files between client and daemon over a session.
#![forbid(unsafe_code)]
