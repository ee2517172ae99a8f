use async_trait::async_trait;
use buildkit_session_content::SessionContent;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::read_all;
use buildkit_util_ocispec::{Descriptor, Document, DocumentError, MAX_MANIFEST};
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

/// An image, an index or a cache in a content store of a client. Stores do not say what a blob is: it is seen by
/// its content.
pub struct StoreImage {
    /// The store.
    pub content: SessionContent,
    /// Its manifest or index.
    pub digest: Digest,
}

#[async_trait]
impl DocumentSource for StoreImage {
    async fn resolve(&self) -> Result<(Descriptor, Option<Bytes>), Error> {
        let info = self.content.info(&self.digest).await?;
        let what = format!("manifest {}", self.digest);
        if info.size > MAX_MANIFEST {
            return Err(DocumentError::TooLarge { what, size: info.size }.into());
        }
        let blob = Descriptor::new("", self.digest.clone(), info.size);
        let bytes = read_all(&self.content, &blob).await?;
        let media_type = Document::detect(&bytes).ok_or_else(|| DocumentError::Invalid {
            what,
            reason: "it is neither an index nor a manifest".to_owned(),
        })?;
        Ok((Descriptor { media_type, ..blob }, Some(bytes)))
    }

    async fn document(&self, document: &Descriptor) -> Result<Bytes, Error> {
        Ok(read_all(&self.content, document).await?)
    }
}
