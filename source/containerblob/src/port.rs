use async_trait::async_trait;
use buildkit_source::SourceContext;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{BlobStream, Error};
use buildkit_util_reference::Reference;

/// A blob that was found.
pub struct FoundBlob {
    /// Its bytes, if that is known.
    pub size: Option<u64>,
    /// The bytes, not verified.
    pub stream: BlobStream,
}

/// Finds blobs in registries, with the credentials of those builds that want them.
#[async_trait]
pub trait BlobRegistry: Send + Sync + 'static {
    /// Opens a blob of a repository.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Provider`] for what the registry said.
    async fn open(
        &self,
        cx: &SourceContext,
        repository: &Reference,
        digest: &Digest,
    ) -> Result<FoundBlob, Error>;
}
