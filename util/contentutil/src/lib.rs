//! Content store by digest in the shape of an OCI layout.
//!
//! [`ContentStore`] is the port; its calls block, for bulk work belongs on the blocking pool.
//! [`LocalStore`] keeps blobs as files, [`MemoryStore`] is its twin.
#![forbid(unsafe_code)]

mod local;
mod memory;
mod port;
#[cfg(feature = "test-util")]
pub mod testsuite;

pub use local::LocalStore;
pub use memory::MemoryStore;
pub use port::{BlobInfo, ContentStore, Error, Expected, Ingester, ReadBlob};
