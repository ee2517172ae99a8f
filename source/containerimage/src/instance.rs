use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::{BlobSource, CacheManager, CreateOptions, ImmutableRef, LayerBlob, Offer};
use buildkit_client_llb_sourceresolver::{ImageMeta, MetaRequest, MetaResponse};
use buildkit_errdefs::Classify as _;
use buildkit_source::{Error, SourceContext, SourceInstance, SourceKey};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::Provider;
use buildkit_util_ocispec::{Descriptor, Platform};
use buildkit_util_pull::{DocumentSource, FoundImage, find_image};
use tokio::sync::OnceCell;

use crate::identifier::{Options, invalid, resolve_mode};
use crate::keys::{content_key, manifest_key};

/// Where one image is.
#[async_trait]
pub(crate) trait Place: Send + Sync + 'static {
    /// Its name, for people.
    fn name(&self) -> String;

    /// Where its documents and layers are, for these sessions.
    fn open(&self, cx: &SourceContext, request: Option<&MetaRequest>) -> Opened;

    /// What its name stands for, if that needs not be asked for.
    fn known(&self) -> Option<Descriptor>;

    /// Its name stands for this.
    fn learned(&self, image: &FoundImage);

    /// Says of a layer where else it can be had.
    fn annotate(&self, layer: &mut Descriptor);
}

/// An image that can be read.
pub(crate) struct Opened {
    pub(crate) documents: Box<dyn DocumentSource>,
    pub(crate) layers: Arc<dyn Provider>,
}

/// An image of some place.
pub(crate) struct Instance<P> {
    pub(crate) cache: CacheManager,
    pub(crate) place: P,
    pub(crate) options: Options,
    resolved: OnceCell<Resolved>,
}

/// An image whose layers are offered to the cache.
struct Resolved {
    image: FoundImage,
    manifest_key: Digest,
    content_key: Option<Digest>,
    _offer: Offer,
}

impl<P: Place> Instance<P> {
    pub(crate) fn new(cache: CacheManager, place: P, options: Options) -> Self {
        Self { cache, place, options, resolved: OnceCell::new() }
    }

    async fn find(
        &self,
        cx: &SourceContext,
        platform: &Platform,
        request: Option<&MetaRequest>,
    ) -> Result<(FoundImage, Opened), Error> {
        let opened = self.place.open(cx, request);
        let content = self.cache.content();
        let found = find_image(&*opened.documents, content, platform, self.place.known()).await;
        let image = found.map_err(|error| {
            let kind = error.kind();
            let text = match kind {
                // What clients look for in texts.
                buildkit_errdefs::Kind::NotFound if !error.to_string().ends_with("not found") => {
                    format!("{}: not found: {error}", self.place.name())
                }
                _ => format!("{}: {error}", self.place.name()),
            };
            Error::Client { kind, message: text }
        })?;
        self.place.learned(&image);
        if let Some(checksum) = self.options.checksum.as_ref().filter(|sum| **sum != image.root.digest) {
            return Err(invalid(format!(
                "image digest {} for {} does not match expected checksum {checksum}",
                image.root.digest,
                self.place.name()
            )));
        }
        Ok((image, opened))
    }

    async fn resolve(&self, cx: &SourceContext) -> Result<Resolved, Error> {
        let part = cx.progress.start(&format!("resolve {}", self.place.name()));
        let found = self.find(cx, &self.options.platform, None).await;
        part.done(0, 0);
        let (mut image, opened) = found?;
        let limit = self.options.layer_limit;
        if let Some(limit) = limit {
            let count = image.layers.len();
            if limit > count {
                return Err(invalid(format!(
                    "layer limit {limit} is greater than the number of layers in the image {count}"
                )));
            }
            image.layers.truncate(limit);
        }
        for layer in &mut image.layers {
            self.place.annotate(&mut layer.descriptor);
        }
        let digests = image.layers.iter().map(|layer| layer.descriptor.digest.clone());
        let source = BlobSource { provider: opened.layers, progress: cx.progress.clone() };
        Ok(Resolved {
            manifest_key: manifest_key(&image.root.digest, &self.options.platform, limit),
            content_key: content_key(&image.config_bytes, limit).map_err(invalid)?,
            _offer: self.cache.offer(digests, source),
            image,
        })
    }

    async fn resolved(&self, cx: &SourceContext) -> Result<&Resolved, Error> {
        tokio::select! {
            resolved = self.resolved.get_or_try_init(|| self.resolve(cx)) => resolved,
            () = cx.cancelled.cancelled() => Err(Error::Cancelled),
        }
    }
}

#[async_trait]
impl<P: Place> SourceInstance for Instance<P> {
    async fn cache_key(&self, cx: &SourceContext, index: usize) -> Result<SourceKey, Error> {
        let resolved = self.resolved(cx).await?;
        let key = match &resolved.content_key {
            Some(key) if index > 0 => key,
            _ => &resolved.manifest_key,
        };
        Ok(SourceKey { key: key.to_string(), pin: resolved.image.root.digest.to_string(), done: index > 0 })
    }

    async fn snapshot(&self, cx: &SourceContext) -> Result<Option<ImmutableRef>, Error> {
        let resolved = self.resolved(cx).await?;
        let mut tree: Option<ImmutableRef> = None;
        for layer in &resolved.image.layers {
            let blob = LayerBlob { descriptor: layer.descriptor.clone(), diff_id: layer.diff_id.clone() };
            let options = CreateOptions {
                description: format!("pulled from {}", self.place.name()),
                record_type: self.options.record_type,
                ..CreateOptions::default()
            };
            let made = self.cache.layer(tree.as_ref(), &blob, options).map_err(|error| Error::Other {
                action: format!("failed to keep a layer of {}", self.place.name()),
                kind: error.kind(),
                source: error.into(),
            })?;
            tree = Some(made);
        }
        Ok(tree)
    }

    async fn metadata(&self, cx: &SourceContext, request: &MetaRequest) -> Result<MetaResponse, Error> {
        resolve_mode(&request.resolve_mode)?;
        let (image, _) = tokio::select! {
            found = self.find(cx, &self.options.platform, Some(request)) => found?,
            () = cx.cancelled.cancelled() => return Err(Error::Cancelled),
        };
        let config = (!request.no_config).then_some(image.config_bytes);
        Ok(MetaResponse {
            image: Some(ImageMeta { digest: image.root.digest, config }),
            ..MetaResponse::default()
        })
    }
}
