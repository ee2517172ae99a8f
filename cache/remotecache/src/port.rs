use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache_remotecache_v1::Records;
use buildkit_session::SessionGroup;
use buildkit_util_contentutil::Provider;

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
