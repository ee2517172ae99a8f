use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{BlobStream, Error, Provider, Remote};
use buildkit_util_ocispec::Descriptor;
use bytes::Bytes;

use crate::compose::Blob;

/// Gives the blobs of images: documents from memory, layers from where they are.
#[derive(Default)]
pub(crate) struct ImageBlobs {
    documents: HashMap<Digest, Bytes>,
    layers: HashMap<Digest, (Descriptor, Arc<dyn Provider>)>,
}

impl ImageBlobs {
    pub(crate) fn add_document(&mut self, blob: &Blob) {
        self.documents.insert(blob.descriptor.digest.clone(), blob.bytes.clone());
    }

    pub(crate) fn add_layers(&mut self, layers: Option<Remote>) {
        let Some(Remote { descriptors, provider }) = layers else { return };
        for descriptor in descriptors {
            let digest = descriptor.digest.clone();
            self.layers.entry(digest).or_insert_with(|| (descriptor, provider.clone()));
        }
    }

    pub(crate) fn layer(&self, digest: &Digest) -> Option<&Descriptor> {
        self.layers.get(digest).map(|(descriptor, _)| descriptor)
    }
}

#[async_trait]
impl Provider for ImageBlobs {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        if let Some(document) = self.documents.get(&blob.digest) {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(document.len());
            let rest = document.slice(start..);
            return Ok(Box::pin(futures::stream::iter([Ok(rest)])));
        }
        // Its own descriptor says more about where it is than what the manifest says of it.
        let (descriptor, provider) =
            self.layers.get(&blob.digest).ok_or_else(|| Error::NotFound(blob.digest.clone()))?;
        provider.read(descriptor, offset).await
    }
}
