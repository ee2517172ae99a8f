//! The Control service of the daemon.
#![forbid(unsafe_code)]
