//! Embedded metadata store with bounded size that survives damage.
//!
//! Everything in a [`MetadataStore`] can be rebuilt or lost without harm: blobs and snapshots on disk
//! are the truth. [`SledStore`] is the persistent store of the daemon, [`MemoryStore`] its twin for
//! tests and for programs that keep nothing.
#![forbid(unsafe_code)]

mod memory;
mod port;
mod sled_store;
mod tables;
#[cfg(feature = "test-util")]
pub mod testsuite;

pub use memory::MemoryStore;
pub use port::{Batch, Bucket, Entry, Error, MetadataStore};
pub use sled_store::{SledOptions, SledStore, probe};
