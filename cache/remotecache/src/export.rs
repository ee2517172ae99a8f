use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache_remotecache_v1::Records;
use buildkit_cache_remotecache_v1::types::CACHE_CONFIG;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{self as contentutil, BlobStream, Provider};
use buildkit_util_ocispec::{Descriptor, Index, Manifest, annotation, media_type, to_json};
use bytes::Bytes;

/// Key of the answer to the client: the descriptor of what was written, JSON.
const MANIFEST: &str = "cache.manifest";

/// How a cache is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheFormat {
    /// As the manifest of an image, whose layers are those of the cache, and not as an index.
    pub image_manifest: bool,
    /// With media types of OCI, and not Docker's.
    pub oci: bool,
}

/// The documents of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDocuments {
    /// The records.
    pub config: (Descriptor, Bytes),
    /// The manifest or index that names them and the layers.
    pub manifest: (Descriptor, Bytes),
    /// The layers, as the manifest has them.
    pub layers: Vec<Descriptor>,
}

impl CacheDocuments {
    /// The documents of some records; `None` if they have no results.
    pub fn new(records: &Records, format: CacheFormat) -> Option<Self> {
        let config = records.to_config();
        let by_digest: HashMap<&Digest, &Descriptor> =
            records.layers.iter().map(|layer| (&layer.digest, layer)).collect();
        let layers = config.layers.iter().filter_map(|layer| {
            let mut layer = (*by_digest.get(&layer.blob)?).clone();
            layer
                .annotations
                .retain(|key, _| key == annotation::UNCOMPRESSED || key == annotation::CREATED_AT);
            layer.media_type = media_type::convert_layer(&layer.media_type, format.oci).to_owned();
            Some(layer)
        });
        let layers: Vec<Descriptor> = layers.collect();
        if layers.is_empty() {
            return None;
        }
        let json: Bytes = to_json(&config).into();
        let config = (Descriptor::of(CACHE_CONFIG, &json), json);
        let manifest = if format.image_manifest {
            let json = to_json(&Manifest::new(config.0.clone(), layers.clone()));
            (Descriptor::of(media_type::OCI_MANIFEST, &json), json.into())
        } else {
            let media_type = if format.oci { media_type::OCI_INDEX } else { media_type::DOCKER_LIST };
            let entries = layers.iter().chain([&config.0]).cloned().collect();
            let json = to_json(&Index { media_type: media_type.to_owned(), ..Index::new(entries) });
            (Descriptor::of(media_type, &json), json.into())
        };
        Some(Self { config, manifest, layers })
    }
}

/// Layers, and documents that are nowhere yet.
pub(crate) struct WithDocuments {
    documents: HashMap<Digest, Bytes>,
    layers: Arc<dyn Provider>,
}

impl WithDocuments {
    pub(crate) fn new(documents: CacheDocuments, layers: Arc<dyn Provider>) -> Self {
        let documents = [documents.config, documents.manifest];
        Self { documents: documents.map(|(descriptor, bytes)| (descriptor.digest, bytes)).into(), layers }
    }
}

#[async_trait]
impl Provider for WithDocuments {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, contentutil::Error> {
        let Some(bytes) = self.documents.get(&blob.digest) else {
            return self.layers.read(blob, offset).await;
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(Box::pin(futures::stream::iter([Ok(bytes.slice(start..))])))
    }
}

/// The answer to the client about a cache that was written.
pub(crate) fn written(manifest: &Descriptor) -> BTreeMap<String, String> {
    let json = String::from_utf8_lossy(&to_json(manifest)).into_owned();
    BTreeMap::from([(MANIFEST.to_owned(), json)])
}
