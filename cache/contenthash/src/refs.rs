use std::collections::HashMap;
use std::sync::Arc;

use buildkit_cache::{ImmutableRef, RefId, RefMetadata};
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_cachedigest::Digest;
use buildkit_util_system::Root;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{ChecksumOptions, Error, Result, Tree};

/// Under which a ref's tree is kept with it.
const KEY: &str = "buildkit.contenthash.v1";

/// Larger trees are not kept in the metadata store, in bytes: hashing them again costs less than
/// a store that holds up everybody.
const MAX_STORED: usize = 8 << 20;

/// Trees in memory by default.
const TREES: usize = 20;

/// Content checksums of refs. Trees that were asked for last are in memory, what was learned is kept
/// with the refs. Clones share it.
#[derive(Clone)]
pub struct ContentHasher {
    inner: Arc<Inner>,
}

struct Inner {
    trees: Mutex<Trees>,
    capacity: usize,
}

#[derive(Default)]
struct Trees {
    /// Each tree is a gate: who asks for a digest of it waits for those that are being computed.
    by_id: HashMap<RefId, (u64, Arc<AsyncMutex<Tree>>)>,
    /// Counts uses.
    clock: u64,
}

impl Default for ContentHasher {
    fn default() -> Self {
        Self::new(TREES)
    }
}

impl ContentHasher {
    /// Keeps this many trees in memory.
    pub fn new(capacity: usize) -> Self {
        Self { inner: Arc::new(Inner { trees: Mutex::default(), capacity: capacity.max(1) }) }
    }

    /// The digest of a path of a ref; `None` is an empty tree. Mounts the ref only if the digest is
    /// not known. Calls for one ref wait for each other.
    ///
    /// # Errors
    /// [`Error::NotFound`] in upstream's words, or when files cannot be read.
    pub async fn checksum(
        &self,
        tree: Option<&ImmutableRef>,
        path: &str,
        options: &ChecksumOptions,
    ) -> Result<Digest> {
        let Some(reference) = tree else {
            return match path {
                "/" => Ok(Digest::sha256(b"")),
                path => Err(Error::Empty(path.to_owned())),
            };
        };
        let metadata = reference.metadata();
        let mut tree = self.slot(reference.id(), &metadata).lock_owned().await;
        match tree.checksum(None, path, options) {
            Err(Error::NeedsFiles) => {}
            known => {
                keep(&mut tree, &metadata);
                return known;
            }
        }
        let mount = reference.mount_local().await?;
        let (path, options) = (path.to_owned(), options.clone());
        // The lock goes along: a caller that leaves does not leave half a tree.
        spawn_blocking(move || {
            let open = |cause| Error::Io { action: "open", path: "/".into(), cause };
            let root = Root::open(mount.path()).map_err(open)?;
            let digest = tree.checksum(Some(&root), &path, &options);
            keep(&mut tree, &metadata);
            digest
        })
        .await
        .map_err(|error| Error::Interrupted(error.to_string()))?
    }

    /// What is known of a ref, for those who change its files and tell (see
    /// [`TreeUpdater`](crate::TreeUpdater)).
    pub async fn tree(&self, id: &RefId, metadata: &RefMetadata) -> Tree {
        self.slot(id, metadata).lock().await.clone()
    }

    /// Sets what is known of a ref, whose files are as the tree says.
    pub async fn set_tree(&self, id: &RefId, metadata: &RefMetadata, mut tree: Tree) {
        let mut slot: OwnedMutexGuard<Tree> = self.slot(id, metadata).lock_owned().await;
        tree.dirty = true;
        keep(&mut tree, metadata);
        *slot = tree;
    }

    /// Forgets a ref whose files changed in ways that nobody told.
    pub fn forget(&self, id: &RefId, metadata: &RefMetadata) {
        self.inner.trees.lock().by_id.remove(id);
        if let Err(error) = metadata.set(KEY, Vec::new()) {
            tracing::warn!(%error, "content digests of a ref not forgotten");
        }
    }

    fn slot(&self, id: &RefId, metadata: &RefMetadata) -> Arc<AsyncMutex<Tree>> {
        if let Some(known) = self.inner.trees.lock().touch(id) {
            return known;
        }
        // Read without the lock; should another do the same, the first one's counts.
        let stored = metadata.get(KEY).unwrap_or_default();
        let tree = Tree::from_bytes(&stored).unwrap_or_else(|error| {
            tracing::warn!(%error, "content digests of a ref are hashed again");
            Tree::new()
        });
        let mut trees = self.inner.trees.lock();
        if let Some(known) = trees.touch(id) {
            return known;
        }
        trees.make_room(self.inner.capacity);
        trees.clock += 1;
        let entry = (trees.clock, Arc::new(AsyncMutex::new(tree)));
        let slot = entry.1.clone();
        trees.by_id.insert(id.clone(), entry);
        slot
    }
}

impl Trees {
    fn touch(&mut self, id: &RefId) -> Option<Arc<AsyncMutex<Tree>>> {
        self.clock += 1;
        let entry = self.by_id.get_mut(id)?;
        entry.0 = self.clock;
        Some(entry.1.clone())
    }

    /// Drops what was used longest ago and is not in use.
    fn make_room(&mut self, capacity: usize) {
        while self.by_id.len() >= capacity {
            let idle = self.by_id.iter().filter(|(_, entry)| Arc::strong_count(&entry.1) == 1);
            let Some(oldest) = idle.min_by_key(|(_, entry)| entry.0).map(|(id, _)| id.clone()) else {
                return;
            };
            self.by_id.remove(&oldest);
        }
    }
}

/// Keeps with the ref what was learned of it.
fn keep(tree: &mut Tree, metadata: &RefMetadata) {
    if !tree.take_dirty() {
        return;
    }
    let bytes = tree.to_bytes();
    if bytes.len() > MAX_STORED {
        return;
    }
    // Costs a hash later, nothing else.
    if let Err(error) = metadata.set(KEY, bytes) {
        tracing::warn!(%error, "content digests of a ref not stored");
    }
}
