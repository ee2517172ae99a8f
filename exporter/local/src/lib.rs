//! Delivers results as files into a client directory.
#![forbid(unsafe_code)]
