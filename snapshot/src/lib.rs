//! Port of snapshotters with merge and diff, and their conformance suite.
#![forbid(unsafe_code)]
