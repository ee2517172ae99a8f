use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache_remotecache_v1::Records;
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_session_content::SessionContent;
use buildkit_util_cachedigest::Digest;
use buildkit_util_compression::Config;
use buildkit_util_contentutil::{self as contentutil, Provider};
use buildkit_util_ocispec::Descriptor;
use buildkit_util_progress::Writer;
use buildkit_util_pull::StoreImage;
use futures::{StreamExt, TryStreamExt, future, stream};

use crate::attrs::{compression, format};
use crate::export::{WithDocuments, written};
use crate::{
    CacheDocuments, CacheExport, CacheExporter, CacheFormat, CacheImporter, Error, RemoteCache, read_cache,
};

/// Layers that are sent to a client at a time.
const SENDERS: usize = 4;
/// Layers that a client is asked about at a time.
const LOOKUPS: usize = 16;

/// Caches in directories of clients, which serve them as content stores over their sessions and name what is in
/// them themselves.
#[derive(Clone)]
pub struct LocalCache {
    sessions: SessionManager,
}

impl LocalCache {
    /// Caches of the clients of these sessions.
    pub fn new(sessions: SessionManager) -> Self {
        Self { sessions }
    }

    fn store(&self, group: &SessionGroup, directory: &str) -> SessionContent {
        SessionContent::of_group(self.sessions.clone(), group.clone(), format!("local:{directory}"))
    }
}

#[async_trait]
impl CacheImporter for LocalCache {
    fn kind(&self) -> &'static str {
        "local"
    }

    async fn import(
        &self,
        attrs: &BTreeMap<String, String>,
        group: &SessionGroup,
    ) -> Result<RemoteCache, Error> {
        let digest = required(attrs, "digest", "local cache importer requires explicit digest")?;
        let digest = Digest::parse(digest)
            .map_err(|error| Error::Option(format!("invalid digest {digest:?} of a local cache: {error}")))?;
        let directory = required(attrs, "src", "local cache importer requires src")?;
        let content = self.store(group, directory);
        let mut caches = read_cache(&StoreImage { content: content.clone(), digest }).await?;
        for records in &mut caches {
            // Directories lose files. A step whose layer is gone is to run, and not to be found cached and to fail
            // when somebody needs its files.
            let lost = lost_layers(&content, &records.layers).await?;
            if !lost.is_empty() {
                tracing::warn!(
                    "{} of {} layers of the local cache {directory} are gone",
                    lost.len(),
                    records.layers.len()
                );
                records.retain_layers(|layer| !lost.contains(&layer.digest));
            }
        }
        Ok(RemoteCache { caches, provider: Arc::new(content) })
    }
}

impl CacheExporter for LocalCache {
    fn kind(&self) -> &'static str {
        "local"
    }

    fn resolve(&self, attrs: &BTreeMap<String, String>) -> Result<Arc<dyn CacheExport>, Error> {
        Ok(Arc::new(LocalExport {
            cache: self.clone(),
            directory: required(attrs, "dest", "local cache exporter requires dest")?.to_owned(),
            format: format(attrs)?,
            compression: compression(attrs)?,
        }))
    }
}

struct LocalExport {
    cache: LocalCache,
    directory: String,
    format: CacheFormat,
    compression: Config,
}

#[async_trait]
impl CacheExport for LocalExport {
    fn description(&self) -> String {
        "exporting cache to client directory".to_owned()
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
        let store = self.cache.store(group, &self.directory);
        let layers = documents.layers.clone();
        let (config, manifest) = (documents.config.0.clone(), documents.manifest.0.clone());
        let provider = WithDocuments::new(documents, provider);
        let (store, provider) = (&store, &provider);
        stream::iter(&layers)
            .map(Ok)
            .try_for_each_concurrent(SENDERS, async |layer| {
                let part = progress.start(&format!("writing layer {}", layer.digest));
                store.copy(provider, layer).await?;
                part.done(0, 0);
                Ok::<_, Error>(())
            })
            .await?;
        // Last what names the others: what a client finds by it is whole.
        let what = if self.format.image_manifest { "cache image manifest" } else { "cache manifest" };
        for (what, document) in [("config", &config), (what, &manifest)] {
            let part = progress.start(&format!("writing {what} {}", document.digest));
            store.copy(provider, document).await?;
            part.done(0, 0);
        }
        Ok(written(&manifest))
    }
}

/// Those of some layers that a store does not have.
async fn lost_layers(content: &SessionContent, layers: &[Descriptor]) -> Result<HashSet<Digest>, Error> {
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest.clone()).collect();
    let lookups = digests.into_iter().map(|digest| {
        let content = content.clone();
        async move {
            match content.info(&digest).await {
                Ok(_) => Ok(None),
                Err(contentutil::Error::NotFound(_)) => Ok(Some(digest)),
                Err(error) => Err(Error::from(error)),
            }
        }
    });
    let found = stream::iter(lookups).buffer_unordered(LOOKUPS);
    found.try_filter_map(|lost| future::ready(Ok(lost))).try_collect().await
}

fn required<'a>(attrs: &'a BTreeMap<String, String>, key: &str, message: &str) -> Result<&'a str, Error> {
    let value = attrs.get(key).filter(|value| !value.is_empty());
    value.map(String::as_str).ok_or_else(|| Error::Option(message.to_owned()))
}
