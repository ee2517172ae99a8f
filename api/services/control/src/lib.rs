//! The Control service: messages, client and server.
#![forbid(unsafe_code)]
