use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache_remotecache_v1::Records;
use buildkit_session::SessionGroup;
use buildkit_util_cachedigest::Digest;
use buildkit_util_compression::{Compression, Config};
use buildkit_util_contentutil::{self as contentutil, BlobStream, Provider};
use buildkit_util_ocispec::{Descriptor, annotation, to_json};
use buildkit_util_progress::{LogStream, Writer};
use buildkit_util_pull::RegistryImage;
use buildkit_util_push::{PushOptions, push};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries};

use bytes::Bytes;

use crate::{
    CacheDocuments, CacheExport, CacheExporter, CacheFormat, CacheImporter, Error, RemoteCache, read_cache,
};

/// Key of the answer to the client: the descriptor of what was written, JSON.
const MANIFEST: &str = "cache.manifest";

/// Caches in registries: manifests of caches, and images that say what they can be cache for.
#[derive(Clone)]
pub struct RegistryCache {
    registries: Registries,
}

impl RegistryCache {
    /// Caches in these registries.
    pub fn new(registries: Registries) -> Self {
        Self { registries }
    }
}

#[async_trait]
impl CacheImporter for RegistryCache {
    fn kind(&self) -> &'static str {
        "registry"
    }

    async fn import(
        &self,
        attrs: &BTreeMap<String, String>,
        group: &SessionGroup,
    ) -> Result<RemoteCache, Error> {
        let reference = reference(attrs)?;
        let insecure = flag(attrs, "registry.insecure")?.unwrap_or_default();
        let repository = self.registries.repository(&reference, group, Access::Pull, insecure);
        let provider = repository.provider();
        let mut caches = read_cache(&RegistryImage(repository)).await?;
        let key = format!("{}{}", annotation::DISTRIBUTION_SOURCE, reference.domain());
        for layer in caches.iter_mut().flat_map(|cache| &mut cache.layers) {
            layer.annotations.insert(key.clone(), reference.path().to_owned());
        }
        Ok(RemoteCache { caches, provider })
    }
}

impl CacheExporter for RegistryCache {
    fn kind(&self) -> &'static str {
        "registry"
    }

    fn resolve(&self, attrs: &BTreeMap<String, String>) -> Result<Arc<dyn CacheExport>, Error> {
        let oci = flag(attrs, "oci-mediatypes")?.unwrap_or(true);
        let image_manifest = flag(attrs, "image-manifest")?.unwrap_or(oci);
        if image_manifest && !oci {
            let text = "invalid configuration for remote cache, OCI mediatypes are required for image-manifest \
                        cache format";
            return Err(Error::Option(text.to_owned()));
        }
        Ok(Arc::new(RegistryExport {
            registries: self.registries.clone(),
            reference: reference(attrs)?,
            insecure: flag(attrs, "registry.insecure")?.unwrap_or_default(),
            format: CacheFormat { image_manifest, oci },
            compression: compression(attrs)?,
        }))
    }
}

struct RegistryExport {
    registries: Registries,
    reference: Reference,
    insecure: bool,
    format: CacheFormat,
    compression: Config,
}

#[async_trait]
impl CacheExport for RegistryExport {
    fn description(&self) -> String {
        "exporting cache to registry".to_owned()
    }

    fn compression(&self) -> Config {
        self.compression
    }

    async fn write(
        &self,
        records: &Records,
        provider: Arc<dyn Provider>,
        group: &SessionGroup,
        progress: &Writer,
    ) -> Result<BTreeMap<String, String>, Error> {
        let Some(CacheDocuments { config, manifest }) = CacheDocuments::new(records, self.format) else {
            progress.start("skipping cache export for empty result").done(0, 0);
            return Ok(BTreeMap::new());
        };
        let repository = self.registries.repository(&self.reference, group, Access::Push, self.insecure);
        let repository = repository.telling_retries(progress.output(LogStream::Stderr));
        let root = manifest.0.clone();
        let documents = [config, manifest].map(|(descriptor, bytes)| (descriptor.digest, bytes));
        let provider = WithDocuments { documents: documents.into(), layers: provider };
        push(&repository, &root, Arc::new(provider), &PushOptions::default(), progress).await?;
        let json = String::from_utf8_lossy(&to_json(&root)).into_owned();
        Ok(BTreeMap::from([(MANIFEST.to_owned(), json)]))
    }
}

/// Layers, and documents that are nowhere yet.
struct WithDocuments {
    documents: HashMap<Digest, Bytes>,
    layers: Arc<dyn Provider>,
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

fn reference(attrs: &BTreeMap<String, String>) -> Result<Reference, Error> {
    let text = attrs.get("ref").filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::Option("missing ref of a registry cache".to_owned()))?;
    let parsed = Reference::parse(text)
        .map_err(|error| Error::Option(format!("invalid ref {text:?} of a registry cache: {error}")))?;
    Ok(parsed.with_default_tag())
}

/// An option that is on or off: what Go's `strconv.ParseBool` takes.
fn flag(attrs: &BTreeMap<String, String>, key: &str) -> Result<Option<bool>, Error> {
    match attrs.get(key).map(String::as_str) {
        None => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(other) => Err(Error::Option(format!("failed to parse {key}: {other:?}"))),
    }
}

fn compression(attrs: &BTreeMap<String, String>) -> Result<Config, Error> {
    let mut config = Config::default();
    if let Some(kind) = attrs.get("compression") {
        config.kind = kind.parse::<Compression>().map_err(|error| Error::Option(error.to_string()))?;
    }
    if let Some(level) = attrs.get("compression-level") {
        let parsed = level.parse();
        let text = || Error::Option(format!("non-integer value {level} specified for compression-level"));
        config.level = Some(parsed.map_err(|_| text())?);
    }
    config.force = flag(attrs, "force-compression")?.unwrap_or_default();
    Ok(config)
}
