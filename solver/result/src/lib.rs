//! A build result: several refs by platform with metadata.
#![forbid(unsafe_code)]
