//! Directories of the client as build sources.
//!
//! `local://name` is the directory that the client shares under that name. What was transferred stays
//! as a record that later builds of the same client go on from: only what changed is transferred, and
//! content is hashed while it arrives.
#![forbid(unsafe_code)]

mod identifier;
mod instance;
mod transfer;

use std::sync::Arc;

use buildkit_cache::CacheManager;
use buildkit_cache_contenthash::ContentHasher;
use buildkit_source::{Error, Identifier, Source, SourceInstance};

/// The source of the scheme `local`.
pub struct LocalSource {
    cache: CacheManager,
    checksums: ContentHasher,
}

impl LocalSource {
    /// A source that keeps directories in `cache` and what is known of their content in `checksums`.
    pub fn new(cache: CacheManager, checksums: ContentHasher) -> Self {
        Self { cache, checksums }
    }
}

impl Source for LocalSource {
    fn schemes(&self) -> &[&'static str] {
        &["local"]
    }

    fn resolve(&self, identifier: &Identifier) -> Result<Arc<dyn SourceInstance>, Error> {
        Ok(Arc::new(instance::LocalInstance {
            cache: self.cache.clone(),
            checksums: self.checksums.clone(),
            options: identifier::Options::parse(identifier)?,
        }))
    }
}
