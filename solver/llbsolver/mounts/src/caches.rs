//! Cache mounts: directories that steps find again by an id that users choose.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use buildkit_cache::{CacheManager, CreateOptions, ImmutableRef, LocalMount, MutableRef, RecordType, RefId};
use buildkit_snapshot::{Mount, MountKind};
use buildkit_util_cachedigest::Digest;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};

use crate::Error;

/// How long a wait for another step's release lasts before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The same while the last holder in this process is just letting go.
const LETTING_GO: Duration = Duration::from_millis(1);

/// Metadata of cache directories: the key, and a mark of those that are not to be found any more.
const KEY: &str = "cache-dir";
const KEY_ID: &str = "cache-dir-id";
const PRUNED: &str = "cache-dir-pruned";

/// How steps that run at the same time use one cache directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All of them at once.
    Shared,
    /// Each has its own; one that is not in use is used again.
    Private,
    /// One after another.
    Locked,
}

impl Sharing {
    /// The mode of a number of the wire.
    ///
    /// # Errors
    /// [`Error::Invalid`] for numbers without a meaning.
    pub fn from_wire(number: i32) -> Result<Self, Error> {
        match number {
            0 => Ok(Self::Shared),
            1 => Ok(Self::Private),
            2 => Ok(Self::Locked),
            _ => Err(Error::Invalid(format!("invalid cache sharing option: {number}"))),
        }
    }
}

/// A cache directory in use. Clones are the same one; it is let go with the last clone, and kept for
/// later steps.
#[derive(Clone)]
pub struct CacheMount {
    shared: Arc<Shared>,
}

impl CacheMount {
    /// How to mount the directory for writing. The mount must not outlive this.
    ///
    /// # Errors
    /// When the record is gone.
    pub async fn mount(&self) -> Result<Mount, Error> {
        let Some(mutable) = &self.shared.mutable else {
            return Err(Error::Invalid("Cache mount was released".to_owned()));
        };
        let mounted = mutable.mount().await.map_err(Error::from)?;
        if !self.shared.is_shared || !matches!(mounted.mount().kind, MountKind::Overlay { .. }) {
            return Ok(mounted.mount().clone());
        }
        // Two overlays with one upper directory do not show each other's files: there is one, for all steps.
        let visible =
            self.shared.visible.get_or_try_init(|| mutable.mount_local()).await.map_err(Error::from)?;
        Ok(Mount { kind: MountKind::Bind, source: visible.path().to_owned(), readonly: false })
    }

    /// The record.
    pub fn id(&self) -> Option<&RefId> {
        self.shared.mutable.as_ref().map(MutableRef::id)
    }
}

struct Shared {
    /// Taken when dropped only, to let go before others are told.
    mutable: Option<MutableRef>,
    /// Steps use it at the same time.
    is_shared: bool,
    /// Where it is mounted, if all steps have to use one mount.
    visible: OnceCell<LocalMount>,
    key: String,
    caches: Arc<Caches>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.visible.take());
        drop(self.mutable.take());
        let mut shares = self.caches.shares.lock();
        // A share of the same key may have taken the place.
        if shares.get(&self.key).is_some_and(|share| share.strong_count() == 0) {
            shares.remove(&self.key);
        }
        drop(shares);
        self.caches.released.notify_waiters();
    }
}

/// The cache directories of a daemon.
pub(crate) struct Caches {
    cache: CacheManager,
    /// Directories that any number of steps may use at once.
    shares: Mutex<HashMap<String, Weak<Shared>>>,
    /// Gates, by key: one at a time looks for the directory of a key.
    seeking: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    released: Notify,
}

/// What a step asks for.
pub(crate) struct Request<'a> {
    pub id: &'a str,
    pub base: Option<&'a ImmutableRef>,
    pub sharing: Sharing,
    pub description: String,
}

impl Request<'_> {
    /// What tells directories apart: the id, and the tree that they started from.
    pub(crate) fn key(&self) -> String {
        match self.base {
            Some(base) => format!("{}:{}", self.id, base.id()),
            None => self.id.to_owned(),
        }
    }
}

/// Ids come from builds and may be anything: what is stored is a digest of fixed length.
fn index(kind: &str, value: &str) -> String {
    format!("{kind}:{}", Digest::sha256(value.as_bytes()))
}

impl Caches {
    pub(crate) fn new(cache: CacheManager) -> Self {
        Self { cache, shares: Mutex::default(), seeking: Mutex::default(), released: Notify::new() }
    }

    /// A directory for a request. Waits for others as its sharing says; dropping the future ends the
    /// wait.
    pub(crate) async fn get(self: &Arc<Self>, request: &Request<'_>) -> Result<CacheMount, Error> {
        let key = request.key();
        let seeking = self.seeking(&key);
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            let wait = {
                let _only_one = seeking.lock().await;
                if request.sharing == Sharing::Shared
                    && let Some(shared) = self.shares.lock().get(&key).and_then(Weak::upgrade)
                {
                    return Ok(CacheMount { shared });
                }
                let (found, locked) = self.reuse(&key).await;
                let letting_go = request.sharing == Sharing::Shared && self.shares.lock().contains_key(&key);
                if found.is_none() && locked && letting_go {
                    LETTING_GO
                } else if found.is_none() && locked && request.sharing == Sharing::Locked {
                    LOOK_AGAIN
                } else {
                    let mutable = match found {
                        Some(mutable) => mutable,
                        None => self.create(request, &key).await?,
                    };
                    return Ok(self.share(mutable, key, request.sharing));
                }
            };
            tokio::select! {
                () = released => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn share(self: &Arc<Self>, mutable: MutableRef, key: String, sharing: Sharing) -> CacheMount {
        let shared = Arc::new(Shared {
            mutable: Some(mutable),
            is_shared: sharing == Sharing::Shared,
            visible: OnceCell::new(),
            key: key.clone(),
            caches: self.clone(),
        });
        if sharing == Sharing::Shared {
            self.shares.lock().insert(key, Arc::downgrade(&shared));
        }
        CacheMount { shared }
    }

    /// The lock of a key. Locks that nobody holds any more are forgotten.
    fn seeking(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut seeking = self.seeking.lock();
        if let Some(lock) = seeking.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        seeking.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        seeking.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// A directory of this key that nobody uses, and whether there is one in use.
    async fn reuse(&self, key: &str) -> (Option<MutableRef>, bool) {
        let mut locked = false;
        for id in self.cache.search(&index(KEY, key)) {
            if self.cache.metadata(&id).is_none_or(|metadata| metadata.get(PRUNED).is_some()) {
                continue;
            }
            match self.cache.get_mutable(&id).await {
                Ok(mutable) => return (Some(mutable), locked),
                Err(buildkit_cache::Error::Locked(_)) => locked = true,
                // A cache that cannot be read is a miss.
                Err(error) => tracing::warn!(%error, key, "cache mount not reused"),
            }
        }
        (None, locked)
    }

    async fn create(&self, request: &Request<'_>, key: &str) -> Result<MutableRef, Error> {
        let options = CreateOptions {
            description: request.description.clone(),
            record_type: RecordType::CacheMount,
            cached_retain: true,
            ..CreateOptions::default()
        };
        let mutable = self.cache.create(request.base, options).await?;
        let metadata = mutable.metadata();
        metadata.set_indexed(KEY, key, &index(KEY, key))?;
        metadata.set_indexed(KEY_ID, request.id, &index(KEY_ID, request.id))?;
        Ok(mutable)
    }

    /// Makes steps that start later begin with empty directories for this id. Those that run go on
    /// with theirs.
    pub(crate) fn prune(&self, id: &str) {
        for record in self.cache.search(&index(KEY_ID, id)) {
            let Some(metadata) = self.cache.metadata(&record) else { continue };
            if let Some(key) = metadata.get(KEY).and_then(|key| String::from_utf8(key).ok()) {
                self.shares.lock().remove(&key);
            }
            // A record that has gone meanwhile is not found either.
            if let Err(error) = metadata.set(PRUNED, "1") {
                tracing::debug!(%error, id, "cache mount not marked");
            }
        }
    }
}
