//! Persistent store of cache keys.
//!
//! All answers come from an index in memory; the database is its write-behind log, read once when
//! the store is opened. A database that is slow or broken costs what it did not keep, never an answer.
#![forbid(unsafe_code)]

mod encoding;
mod store;

pub use store::{PersistentKeyStore, PersistentKeyStoreOptions};
