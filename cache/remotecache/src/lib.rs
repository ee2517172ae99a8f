//! Caches that other builders left elsewhere, such as in an image, or are left there for them.
//!
//! Importing reads documents only; layers are fetched when a build needs their files.
#![forbid(unsafe_code)]

mod attrs;
mod error;
mod export;
mod import;
mod local;
mod port;
mod registry;

pub use error::Error;
pub use export::{CacheDocuments, CacheFormat};
pub use import::{DESCRIPTION, read_cache};
pub use local::LocalCache;
pub use port::{CacheExport, CacheExporter, CacheImporter, RemoteCache};
pub use registry::RegistryCache;
