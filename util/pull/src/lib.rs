//! Finds an image's manifest, configuration and layers by its name and platform, in a registry or in a content
//! store of a client.
//!
//! [`find_image`] reads documents only: layers stay where they are. What is read is kept in a content store
//! and not read again; the document that a name stands for is always asked for, unless the name has a digest
//! and the store has it from the same place.
#![forbid(unsafe_code)]

mod error;
mod find;
mod source;

pub use error::Error;
pub use find::{FoundImage, FoundLayer, find_image};
pub use source::{DocumentSource, RegistryImage, StoreImage};
