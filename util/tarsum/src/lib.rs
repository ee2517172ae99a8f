//! Writes the tarsum v1 header form that content digests are made of.
//!
//! The form comes from the early Docker builder: field names and values of a tar header, one after
//! another without separators, modification time left out, extended attributes after them. It is
//! kept because cache keys of existing caches are made of it.
#![forbid(unsafe_code)]

mod header;

pub use header::{Header, UnknownMode, is_hashed_xattr};
