//! Negotiates capabilities between clients, frontends and the daemon.
#![forbid(unsafe_code)]
