//! Content stores of a client, served and used over a session.
#![forbid(unsafe_code)]
