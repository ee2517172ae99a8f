//! Directories of the client as build sources.
#![forbid(unsafe_code)]
