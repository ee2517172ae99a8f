use std::sync::Arc;

use buildkit_cache_metadata::{Batch, Bucket, MetadataStore};
use buildkit_util_cachedigest::Digest;

/// Documents by the repository that gave them: digest, NUL, repository.
const ORIGINS: Bucket = Bucket::new("image.origins");

/// Which repository gave which manifest.
///
/// A name with a digest is only taken from the store if its own repository has given the manifest before:
/// otherwise a build could use an image of a repository that it cannot read, or show that it exists.
#[derive(Clone)]
pub(crate) struct Origins {
    metadata: Arc<dyn MetadataStore>,
}

impl Origins {
    pub(crate) fn new(metadata: Arc<dyn MetadataStore>) -> Self {
        Self { metadata }
    }

    pub(crate) fn has(&self, digest: &Digest, repository: &str) -> bool {
        matches!(self.metadata.get(ORIGINS, &key(digest, repository)), Ok(Some(_)))
    }

    pub(crate) fn add(&self, digest: &Digest, repository: &str) {
        if self.has(digest, repository) {
            return;
        }
        let mut batch = Batch::new();
        batch.put(ORIGINS, key(digest, repository), Vec::new());
        if let Err(error) = self.metadata.apply(batch) {
            // The registry is asked again.
            tracing::debug!(%error, "origin of a manifest not stored");
        }
    }
}

fn key(digest: &Digest, repository: &str) -> Vec<u8> {
    format!("{digest}\0{repository}").into_bytes()
}
