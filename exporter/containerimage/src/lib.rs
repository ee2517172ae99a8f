//! Composes images and pushes them to registries.
//!
//! [`compose`] makes the bytes of configurations, manifests and indexes. [`ImageWriter`] has layers made,
//! composes documents and stores them; exporters of images of any kind are written on it, with
//! [`CommitOptions`] for the options that they have in common. [`ImageExporter`] is the one that pushes.
#![forbid(unsafe_code)]

mod annotations;
mod blobs;
pub mod compose;
mod exporter;
mod options;
mod plan;
mod push;
#[cfg(test)]
mod recorded;
mod writer;

pub use annotations::{AnnotationGroup, Annotations};
pub use compose::ComposedImage;
pub use exporter::{ImageExporter, ImageExporterOptions};
pub use options::{CommitOptions, parse_bool, parse_flag};
pub use writer::{Committed, ImageWriter};
