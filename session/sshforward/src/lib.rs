//! Forwards SSH agent connections over a session.
#![forbid(unsafe_code)]
