//! Composes the documents of images: pure functions from what a build gave to the bytes that are stored.
//!
//! The bytes are those that upstream writes for the same input (`exporter/containerimage/writer.go`):
//! configurations with sorted keys and without white space, manifests and indexes with two spaces.

mod config;
mod history;
mod manifest;

pub use config::default_config;
pub use history::History;
pub use manifest::{Blob, ComposedImage, ImageInput, Style, compose_image, compose_index};

use buildkit_errdefs::{Classify, Kind};

/// Documents cannot be composed of this.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The configuration cannot be read.
    #[error("{what}: {source}")]
    Json {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: serde_json::Error,
    },
    /// The configuration is no object.
    #[error("invalid null image config for export")]
    Null,
    /// A field is not there.
    #[error("invalid image config for export: missing {0}")]
    Missing(&'static str),
    /// A layer does not say what it was before it was compressed.
    #[error("layer {0} has no digest of its content before it was compressed")]
    NoDiffId(buildkit_util_cachedigest::Digest),
    /// The epoch cannot be written.
    #[error("invalid source date epoch: {0}")]
    Epoch(#[from] buildkit_exporter_util_epoch::ParseTimestampError),
}

impl ComposeError {
    fn json(what: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json { what, source }
    }
}

impl Classify for ComposeError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoDiffId(_) => Kind::Internal,
            _ => Kind::InvalidArgument,
        }
    }
}
