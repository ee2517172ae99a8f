//! Caches that other builders left elsewhere, such as in an image.
//!
//! Importing reads documents only; layers are fetched when a build needs their files.
#![forbid(unsafe_code)]

mod error;
mod import;
mod port;
mod registry;

pub use error::Error;
pub use import::{DESCRIPTION, read_cache};
pub use port::{CacheImporter, RemoteCache};
pub use registry::RegistryCache;
