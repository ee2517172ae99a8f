//! Port of sources: from an identifier to a cacheable snapshot.
#![forbid(unsafe_code)]
