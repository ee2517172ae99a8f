//! Sends, receives, filters and compares directory trees over the fsutil protocol.
#![forbid(unsafe_code)]
