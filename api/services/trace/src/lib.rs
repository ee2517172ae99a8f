//! The OTLP trace service: messages, client and server.
#![forbid(unsafe_code)]
