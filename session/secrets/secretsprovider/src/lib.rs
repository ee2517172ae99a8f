//! Secrets from files and environment variables.
#![forbid(unsafe_code)]
