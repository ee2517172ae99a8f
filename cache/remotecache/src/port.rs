use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache_remotecache_v1::Records;
use buildkit_session::SessionGroup;
use buildkit_util_compression::Config;
use buildkit_util_contentutil::Provider;
use buildkit_util_progress::Writer;

use crate::Error;

/// A cache that was found elsewhere.
#[derive(Clone)]
pub struct RemoteCache {
    /// What it has: for an image, the records of each of its platforms.
    pub caches: Vec<Records>,
    /// Gives the bytes of layers.
    pub provider: Arc<dyn Provider>,
}

/// Finds caches of one kind.
#[async_trait]
pub trait CacheImporter: Send + Sync + 'static {
    /// Its name in requests, such as `registry`.
    fn kind(&self) -> &'static str;

    /// Reads what a cache has, with the credentials of these sessions.
    ///
    /// # Errors
    /// When the options make no sense, the cache is not there, or what is there is no cache.
    async fn import(
        &self,
        attrs: &BTreeMap<String, String>,
        group: &SessionGroup,
    ) -> Result<RemoteCache, Error>;
}

/// Writes caches of one kind.
pub trait CacheExporter: Send + Sync + 'static {
    /// Its name in requests, such as `registry`.
    fn kind(&self) -> &'static str;

    /// Checks the options of a cache that is to be written. No I/O.
    ///
    /// # Errors
    /// When an option makes no sense.
    fn resolve(&self, attrs: &BTreeMap<String, String>) -> Result<Arc<dyn CacheExport>, Error>;
}

/// A cache that is to be written.
#[async_trait]
pub trait CacheExport: Send + Sync + 'static {
    /// What is done, for people.
    fn description(&self) -> String;

    /// How layers that are made for it are compressed.
    fn compression(&self) -> Config;

    /// Writes the cache with the credentials of these sessions. `provider` gives the bytes of layers. The answer
    /// is for the client.
    ///
    /// # Errors
    /// When it cannot be written. What was written until then stays.
    async fn write(
        &self,
        records: &Records,
        provider: Arc<dyn Provider>,
        group: &SessionGroup,
        progress: &Writer,
    ) -> Result<BTreeMap<String, String>, Error>;
}
