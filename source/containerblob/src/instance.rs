use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::{CacheManager, CreateOptions, ImmutableRef};
use buildkit_errdefs::{Classify, Kind};
use buildkit_session::LOOKUP_WAIT;
use buildkit_session_content::SessionContent;
use buildkit_source::{Error, SourceContext, SourceInstance, SourceKey};
use buildkit_util_contentutil::{BlobStream, Error as BlobError, Provider as _};
use buildkit_util_ocispec::{Descriptor, media_type};
use buildkit_util_progress::LogStream;
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries};

use crate::identifier::{Options, Place};
use crate::write::{Destination, write};

/// One blob.
pub(crate) struct BlobInstance {
    pub(crate) cache: CacheManager,
    pub(crate) registries: Registries,
    pub(crate) options: Options,
}

#[async_trait]
impl SourceInstance for BlobInstance {
    async fn cache_key(&self, _cx: &SourceContext, _index: usize) -> Result<SourceKey, Error> {
        let key = self.options.key().to_string();
        Ok(SourceKey { key, pin: self.options.digest.to_string(), done: true })
    }

    async fn snapshot(&self, cx: &SourceContext) -> Result<Option<ImmutableRef>, Error> {
        tokio::select! {
            result = self.fetch(cx) => result.map(Some),
            () = cx.cancelled.cancelled() => Err(Error::Cancelled),
        }
    }
}

impl BlobInstance {
    async fn fetch(&self, cx: &SourceContext) -> Result<ImmutableRef, Error> {
        let (size, stream) = self.find(cx).await.map_err(|error| self.error(error))?;
        let options = CreateOptions {
            description: format!("blob {}", self.options.text),
            record_type: self.options.record_type,
            ..CreateOptions::default()
        };
        let record = self.cache.create(None, options).await.map_err(|error| self.error(error))?;
        let mount = record.mount_local().await.map_err(|error| self.error(error))?;
        let destination = Arc::new(Destination { mount, record });
        let part = cx.progress.start(&format!("transferring {}:", self.options.text));
        let written = write(&destination, &self.options, size, stream, &part).await;
        let len = written.map_err(|error| self.error(error))?;
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        part.done(len, len);
        let Some(Destination { mount, record }) = Arc::into_inner(destination) else {
            let action = format!("failed to load {}", self.options.text);
            return Err(Error::Other {
                action,
                kind: Kind::Internal,
                source: "Writing has not ended".into(),
            });
        };
        drop(mount);
        record.commit().await.map_err(|error| self.error(error))
    }

    /// The size of the blob and its bytes, not verified.
    async fn find(&self, cx: &SourceContext) -> Result<(u64, BlobStream), BlobError> {
        let digest = &self.options.digest;
        let (store, session) = match &self.options.place {
            Place::Registry(repository) => return self.find_in_registry(cx, repository).await,
            Place::Layout { store, session } => (format!("oci:{store}"), session),
        };
        let content = if session.is_empty() {
            SessionContent::of_group(cx.sessions.clone(), cx.group.clone(), store)
        } else {
            let caller = cx.sessions.get(session, LOOKUP_WAIT).await.map_err(BlobError::provider)?;
            SessionContent::of_caller(caller, store)
        };
        let size = content.info(digest).await?.size;
        let blob = Descriptor::new("", digest.clone(), size);
        Ok((size, content.read(&blob, 0).await?))
    }

    async fn find_in_registry(
        &self,
        cx: &SourceContext,
        name: &Reference,
    ) -> Result<(u64, BlobStream), BlobError> {
        let digest = &self.options.digest;
        let repository = self.registries.repository(name, &cx.group, Access::Pull, false);
        let repository = repository.telling_retries(cx.progress.output(LogStream::Stderr));
        let (kind, size) = match repository.stat(digest, "").await {
            // Manifests are blobs too, but registries keep them elsewhere.
            Err(error) if error.kind() == Kind::NotFound => {
                let size = repository.stat(digest, media_type::OCI_MANIFEST).await;
                (media_type::OCI_MANIFEST, size.map_err(|_| BlobError::provider(error))?)
            }
            size => ("", size.map_err(BlobError::provider)?),
        };
        let size = size.ok_or_else(|| BlobError::Provider {
            kind: Kind::FailedPrecondition,
            source: format!("Registry `{}` does not say how large blob `{digest}` is", name.domain()).into(),
        })?;
        let blob = Descriptor::new(kind, digest.clone(), size);
        Ok((size, repository.provider().read(&blob, 0).await?))
    }

    fn error(&self, error: impl Classify + Send + Sync + 'static) -> Error {
        Error::Other {
            action: format!("failed to load {}", self.options.text),
            kind: error.kind(),
            source: Box::new(error),
        }
    }
}
