//! Blobs by digest: stores in the shape of an OCI layout, and providers that blobs are fetched from.
//!
//! [`ContentStore`] is the port; its calls block, for bulk work belongs on the blocking pool.
//! [`LocalStore`] keeps blobs as files, [`MemoryStore`] is its twin, and [`LayoutStore`] is for directories of others. [`Provider`] is the other port: whoever gives
//! the bytes of a blob as a stream, such as a registry; [`fetch`] brings them into a store.
#![forbid(unsafe_code)]

mod fallback;
mod file;
mod layout;
mod local;
mod memory;
mod port;
mod provider;
#[cfg(feature = "test-util")]
pub mod testsuite;

pub use fallback::Fallback;
pub use layout::LayoutStore;
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use port::{BlobInfo, ContentStore, Error, Expected, Ingester, ReadBlob, ReadOnly};
pub use provider::{
    BlobStream, MultiProvider, Provider, Remote, StoreProvider, StreamReader, fetch, read_all, store_bytes,
};
