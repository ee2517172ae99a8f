//! Images of registries and layouts as build sources.
//!
//! `docker-image://NAME` is an image of a registry, `oci-layout://NAME@DIGEST` one of a layout that a client
//! serves. Documents are read when a key is asked for; layers are offered to the cache then, and fetched when
//! something needs their files or their blobs. Keys are upstream's (`source/containerimage/pull.go`): the
//! digest of the image with its platform, then the chain of its layers.
#![forbid(unsafe_code)]

mod identifier;
mod instance;
mod keys;
mod layout;
mod origins;
mod registry;

pub use layout::LayoutSource;
pub use registry::RegistrySource;
