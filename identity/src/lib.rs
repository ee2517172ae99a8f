//! Random identifiers for builds, sessions, refs and snapshots.
#![forbid(unsafe_code)]

mod id;

pub use id::{ID_LEN, new_id};
