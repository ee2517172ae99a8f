//! Blobs that records name: where they can be had, fetching them once for all, and removing them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{self as contentutil, BlobStream, Provider, StoreProvider};
use buildkit_util_flightcontrol::Group;
use buildkit_util_ocispec::Descriptor;
use buildkit_util_progress::Writer;
use parking_lot::Mutex;

use crate::manager::{Inner, shared};
use crate::refs::Handle;
use crate::{CacheManager, Error};

/// How long a blob that no record names and nobody holds is kept: manifests and configurations of images that
/// were used, mostly, and blobs whose record is still being written.
pub(crate) const KEPT: Duration = Duration::from_secs(60 * 60);

/// Who gives blobs that are not here yet.
#[derive(Clone)]
pub struct BlobSource {
    /// Gives their bytes.
    pub provider: Arc<dyn Provider>,
    /// Where it is told how much has come.
    pub progress: Writer,
}

/// What is known of blobs besides the records that name them.
#[derive(Default)]
pub(crate) struct Blobs {
    offers: Mutex<HashMap<Digest, Vec<(u64, BlobSource)>>>,
    next: AtomicU64,
    /// Gates: closed while a blob is fetched, by whoever fetches it for all.
    gates: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    fetches: Group<Digest, Result<(), Arc<Error>>>,
}

/// Blobs can be had from a source as long as this lives.
#[must_use = "an offer that is dropped is withdrawn"]
pub struct Offer {
    inner: Arc<Inner>,
    number: u64,
    digests: Vec<Digest>,
}

/// Keeps a blob that no record names.
pub struct Pin {
    inner: Arc<Inner>,
    digest: Digest,
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut offers = self.inner.blobs.offers.lock();
        for digest in &self.digests {
            if let Some(sources) = offers.get_mut(digest) {
                sources.retain(|(number, _)| *number != self.number);
                if sources.is_empty() {
                    offers.remove(digest);
                }
            }
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.inner.graph.lock().unpin(&self.digest);
    }
}

impl CacheManager {
    /// Tells where blobs can be had. If several sources offer a blob, the latest is asked first.
    pub fn offer(&self, digests: impl IntoIterator<Item = Digest>, source: BlobSource) -> Offer {
        let blobs = &self.inner.blobs;
        let number = blobs.next.fetch_add(1, Ordering::Relaxed);
        let digests: HashSet<Digest> = digests.into_iter().collect();
        let mut offers = blobs.offers.lock();
        for digest in &digests {
            offers.entry(digest.clone()).or_default().push((number, source.clone()));
        }
        Offer { inner: self.inner.clone(), number, digests: digests.into_iter().collect() }
    }

    /// Keeps a blob from being removed, also one that is not there yet.
    pub fn pin(&self, digest: &Digest) -> Pin {
        self.inner.graph.lock().pin(digest);
        Pin { inner: self.inner.clone(), digest: digest.clone() }
    }

    /// Fetches a blob into the content store from those who offer it, once for all who ask. The work ends when
    /// the last of them leaves.
    ///
    /// # Errors
    /// When nobody offers it, or all who do fail.
    pub async fn fetch(&self, blob: &Descriptor) -> Result<(), Error> {
        self.inner.fetch(blob).await
    }

    /// Gives blobs from the content store; those that are not there are fetched into it first.
    pub fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(CacheProvider { inner: self.inner.clone(), _handles: Vec::new() })
    }
}

impl Inner {
    /// Who offers a blob, the latest first.
    pub(crate) fn sources(&self, digest: &Digest) -> Vec<BlobSource> {
        let offers = self.blobs.offers.lock();
        offers.get(digest).into_iter().flatten().rev().map(|(_, source)| source.clone()).collect()
    }

    /// The gate of those who fetch a blob.
    pub(crate) fn gate(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.blobs.gates.lock();
        if let Some(gate) = gates.get(digest).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::default();
        gates.insert(digest.clone(), Arc::downgrade(&gate));
        gate
    }

    pub(crate) fn is_stored(&self, digest: &Digest) -> bool {
        self.graph.lock().is_stored(digest)
    }

    /// Looks whether a blob is in the store, whatever is known of it, and as it should be.
    pub(crate) async fn is_there(&self, blob: &Descriptor) -> bool {
        if !self.is_stored(&blob.digest) {
            return false;
        }
        let (content, digest, size) = (self.content.clone(), blob.digest.clone(), blob.size);
        // Opening verifies it: what is damaged is found while it can still be made or fetched anew.
        let found = spawn_blocking(move || content.open(&digest, Some(size)).map(drop)).await;
        let there = matches!(found, Ok(Ok(())));
        if !there {
            tracing::warn!(digest = %blob.digest, "blob is missing or damaged");
            self.note_lost(&blob.digest);
        }
        there
    }

    /// Remembers that a blob is in the store now.
    pub(crate) fn note_stored(&self, digest: &Digest, size: u64) {
        self.graph.lock().note_stored(digest, size);
    }

    /// Remembers that a blob was found missing or damaged.
    pub(crate) fn note_lost(&self, digest: &Digest) {
        self.graph.lock().note_lost(digest);
    }

    pub(crate) async fn fetch(self: &Arc<Self>, blob: &Descriptor) -> Result<(), Error> {
        if self.is_stored(&blob.digest) {
            return Ok(());
        }
        let (inner, blob) = (self.clone(), blob.clone());
        let digest = blob.digest.clone();
        let work = move || shared("fetch a blob", async move { inner.fetch_now(&blob).await });
        self.blobs.fetches.run(digest, work).await.map_err(Error::Shared)
    }

    async fn fetch_now(self: &Arc<Self>, blob: &Descriptor) -> Result<(), Error> {
        let gate = self.gate(&blob.digest);
        let _gate = gate.lock().await;
        if self.is_stored(&blob.digest) {
            return Ok(());
        }
        let mut failed = Error::NoSource(blob.digest.clone());
        for source in self.sources(&blob.digest) {
            let total = i64::try_from(blob.size).unwrap_or(i64::MAX);
            let part = Arc::new(source.progress.start(blob.digest.as_str()));
            let told = {
                let part = part.clone();
                move |current| part.update(i64::try_from(current).unwrap_or(i64::MAX), total)
            };
            let fetched = contentutil::fetch(&*source.provider, blob, &self.content, told).await;
            if let Some(part) = Arc::into_inner(part) {
                part.done(if fetched.is_ok() { total } else { 0 }, total);
            }
            match fetched {
                Ok(info) => {
                    self.note_stored(&blob.digest, info.size);
                    return Ok(());
                }
                Err(source) => {
                    tracing::debug!(error = %source, digest = %blob.digest, "blob not fetched");
                    failed = Error::blob(&blob.digest, source);
                }
            }
        }
        Err(failed)
    }

    /// Removes blobs that nothing needs any more, of those that were named by records which are gone.
    pub(crate) async fn remove_blobs(&self, digests: Vec<Digest>) {
        let unused: Vec<Digest> = {
            let graph = self.graph.lock();
            digests.into_iter().filter(|digest| graph.is_unused(digest)).collect()
        };
        self.delete_blobs(unused).await;
    }

    async fn delete_blobs(&self, digests: Vec<Digest>) {
        if digests.is_empty() {
            return;
        }
        for digest in &digests {
            self.note_lost(digest);
        }
        let content = self.content.clone();
        let removed = spawn_blocking(move || {
            for digest in digests {
                match content.delete(&digest) {
                    Ok(()) | Err(contentutil::Error::NotFound(_)) => {}
                    Err(error) => tracing::warn!(%error, "blob not removed"),
                }
            }
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "blobs not removed");
        }
    }

    /// Removes blobs that no record names, that nobody holds, and that were not stored within `kept`.
    pub(crate) async fn sweep(&self, kept: Duration) {
        let content = self.content.clone();
        let listed = match spawn_blocking(move || content.list()).await {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => return tracing::warn!(%error, "blobs not listed"),
            Err(error) => return tracing::warn!(%error, "blobs not listed"),
        };
        let now = (self.clock)();
        let is_old = |stored_at| now.duration_since(stored_at).is_ok_and(|age| age >= kept);
        let unused: Vec<Digest> = {
            let graph = self.graph.lock();
            let old = listed.into_iter().filter(|info| is_old(info.stored_at));
            old.map(|info| info.digest).filter(|digest| graph.is_unused(digest)).collect()
        };
        self.delete_blobs(unused).await;
    }
}

/// Gives blobs of records, and keeps the records meanwhile.
pub(crate) struct CacheProvider {
    pub(crate) inner: Arc<Inner>,
    /// Keep the records, so that nothing removes blobs that they name.
    pub(crate) _handles: Vec<Arc<Handle>>,
}

#[async_trait]
impl Provider for CacheProvider {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, contentutil::Error> {
        let store = StoreProvider(self.inner.content.clone());
        match store.read(blob, offset).await {
            Err(contentutil::Error::NotFound(_) | contentutil::Error::Damaged(_)) => {}
            read => return read,
        }
        self.inner.note_lost(&blob.digest);
        match self.inner.fetch(blob).await {
            Ok(()) => store.read(blob, offset).await,
            Err(error) if error.is_lost_blob() => Err(contentutil::Error::NotFound(blob.digest.clone())),
            Err(error) => Err(contentutil::Error::provider(error)),
        }
    }
}
