//! Documents of container images: descriptors, manifests, indexes, configurations and platforms.
//!
//! Plain types in the order of fields that Go programs write, so that what is written here has the bytes
//! that they would write; [`to_json`] and [`to_json_pretty`] add Go's escapes. Documents that came from
//! elsewhere are never written again: their digests are those of the bytes that came.
//! Sources: OCI image specification 1.1 (descriptor.md, manifest.md, image-index.md, config.md,
//! image-layout.md) and Docker's image manifest V 2, schema 2.
#![forbid(unsafe_code)]

mod descriptor;
mod docker;
mod document;
mod json;
pub mod media_type;
mod platform;
mod specifier;

pub use descriptor::{Descriptor, annotation};
pub use docker::{DockerConfig, DockerImage, DockerRootFs, Empty, Healthcheck, Set};
pub use document::{
    Config, Document, DocumentError, History, Image, Index, Layout, MAX_MANIFEST, Manifest, RootFs,
};
pub use json::{to_json, to_json_pretty};
pub use platform::{Platform, PlatformMatcher};
pub use specifier::ParsePlatformError;
