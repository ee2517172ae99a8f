use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache_remotecache_v1::Records;
use buildkit_session::SessionGroup;
use buildkit_util_compression::Config;
use buildkit_util_contentutil::Provider;
use buildkit_util_ocispec::annotation;
use buildkit_util_progress::{LogStream, Writer};
use buildkit_util_pull::RegistryImage;
use buildkit_util_push::{PushOptions, push};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries};

use crate::attrs::{compression, flag, format};
use crate::export::{WithDocuments, written};
use crate::{
    CacheDocuments, CacheExport, CacheExporter, CacheFormat, CacheImporter, Error, RemoteCache, read_cache,
};

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
        Ok(Arc::new(RegistryExport {
            registries: self.registries.clone(),
            reference: reference(attrs)?,
            insecure: flag(attrs, "registry.insecure")?.unwrap_or_default(),
            format: format(attrs)?,
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
        let Some(documents) = CacheDocuments::new(records, self.format) else {
            progress.start("skipping cache export for empty result").done(0, 0);
            return Ok(BTreeMap::new());
        };
        let repository = self.registries.repository(&self.reference, group, Access::Push, self.insecure);
        let repository = repository.telling_retries(progress.output(LogStream::Stderr));
        let root = documents.manifest.0.clone();
        let provider = WithDocuments::new(documents, provider);
        push(&repository, &root, Arc::new(provider), &PushOptions::default(), progress).await?;
        Ok(written(&root))
    }
}

fn reference(attrs: &BTreeMap<String, String>) -> Result<Reference, Error> {
    let text = attrs.get("ref").filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::Option("missing ref of a registry cache".to_owned()))?;
    let parsed = Reference::parse(text)
        .map_err(|error| Error::Option(format!("invalid ref {text:?} of a registry cache: {error}")))?;
    Ok(parsed.with_default_tag())
}
