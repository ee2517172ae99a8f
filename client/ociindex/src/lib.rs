//! Reads and updates the index of an OCI image layout.
//!
//! A layout's `index.json` (image-layout.md of the OCI image specification) names the images in it. Several programs
//! may add to one layout at a time: writers hold a lock, the file `index.json.lock`, as those of the original do, and
//! replace the index as a whole. What the index holds that is not known here stays as it is.
//!
//! Facts: upstream `client/ociindex`.
#![forbid(unsafe_code)]

mod error;
mod file;
mod index;
mod lock;

pub use error::Error;
pub use index::{Name, StoreIndex};
