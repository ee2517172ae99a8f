use async_trait::async_trait;
use buildkit_util_ocispec::Descriptor;
use buildkit_util_resolver::Repository;
use bytes::Bytes;

use crate::Error;

/// Where the documents of one image are.
#[async_trait]
pub trait DocumentSource: Send + Sync {
    /// The manifest or index that the image's name stands for, with its bytes if they came along.
    async fn resolve(&self) -> Result<(Descriptor, Option<Bytes>), Error>;

    /// The bytes of a manifest, an index or a configuration, verified.
    async fn document(&self, document: &Descriptor) -> Result<Bytes, Error>;
}

/// An image of a registry.
pub struct RegistryImage(pub Repository);

#[async_trait]
impl DocumentSource for RegistryImage {
    async fn resolve(&self) -> Result<(Descriptor, Option<Bytes>), Error> {
        let resolved = self.0.resolve().await?;
        Ok((resolved.descriptor, resolved.manifest))
    }

    async fn document(&self, document: &Descriptor) -> Result<Bytes, Error> {
        use buildkit_util_ocispec::media_type::{is_index, is_manifest};
        if is_manifest(&document.media_type) || is_index(&document.media_type) {
            return Ok(self.0.manifest(document).await?);
        }
        Ok(buildkit_util_contentutil::read_all(&*self.0.provider(), document).await?)
    }
}
