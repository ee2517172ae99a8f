//! Single blobs of registries and layouts as build sources.
//!
//! `docker-image+blob://name@digest` is a blob of a repository, `oci-layout+blob://name@digest` one of a layout that the
//! client serves over its session. Each becomes a tree with one file, which is verified while it is written.
//!
//! Facts: upstream `source/containerblob`.
#![forbid(unsafe_code)]

mod identifier;
mod instance;
mod write;

use std::sync::Arc;

use buildkit_cache::CacheManager;
use buildkit_source::{Error, Identifier, Source, SourceInstance};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::Registries;

/// The source of the schemes `docker-image+blob` and `oci-layout+blob`.
pub struct BlobSource {
    cache: CacheManager,
    registries: Registries,
}

impl BlobSource {
    /// A source that keeps files in `cache` and fetches blobs of repositories from `registries`.
    pub fn new(cache: CacheManager, registries: Registries) -> Self {
        Self { cache, registries }
    }
}

impl Source for BlobSource {
    fn schemes(&self) -> &[&'static str] {
        &[identifier::IMAGE_SCHEME, identifier::LAYOUT_SCHEME]
    }

    fn resolve(&self, identifier: &Identifier) -> Result<Arc<dyn SourceInstance>, Error> {
        Ok(Arc::new(instance::BlobInstance {
            cache: self.cache.clone(),
            registries: self.registries.clone(),
            options: identifier::Options::parse(identifier)?,
        }))
    }

    fn canonical(&self, scheme: &str, reference: &str) -> Option<String> {
        // What a client calls a store of its own is a name and nothing else.
        let is_named = scheme == identifier::IMAGE_SCHEME;
        is_named.then(|| Reference::parse(reference).ok()).flatten().map(|reference| reference.to_string())
    }
}
