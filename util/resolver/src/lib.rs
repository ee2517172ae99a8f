//! Registry client: hosts and mirrors, authentication through sessions, retries, pulls and pushes.
#![forbid(unsafe_code)]
