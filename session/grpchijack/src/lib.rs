//! Carries a session through the Control.Session stream.
#![forbid(unsafe_code)]
