//! Client sessions: the tunnel in both roles, lookup, groups and health.
#![forbid(unsafe_code)]
