use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use buildkit_cache_metadata::{Batch, MetadataStore};
use buildkit_snapshot::{ActiveKey, LocalMounter, Snapshotter};
use buildkit_util_appcontext::{detach, spawn, spawn_blocking};
use buildkit_util_contentutil::ContentStore;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::blobs::Blobs;
use crate::layers::Makes;
use crate::record::{Facts, Graph, Parents, Record, Released, State};
use crate::refs::Handle;
use crate::store::{self, INDEXES, RECORDS, VALUES, joined};
use crate::unpack::Unpacks;
use crate::{
    Error, Filter, GcPolicy, ImmutableRef, LayerBlob, MutableRef, RecordType, RefId, RefMetadata,
    UsageRecord, open, prune,
};

/// What a [`CacheManager`] works with.
pub struct CacheOptions {
    /// Where the files are.
    pub snapshotter: Arc<dyn Snapshotter>,
    /// Where the records are.
    pub metadata: Arc<dyn MetadataStore>,
    /// Where layers are as blobs. The manager removes those that nothing needs.
    pub content: Arc<dyn ContentStore>,
    /// A directory of the manager's own for mounts, on any file system.
    pub mount_root: PathBuf,
    /// A directory on the file system whose free space counts for garbage collection.
    pub root: PathBuf,
    /// The time.
    pub clock: fn() -> SystemTime,
}

/// What a new record is like.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// For people.
    pub description: String,
    /// What it is for.
    pub record_type: RecordType,
    /// A mutable record stays when it is released, and [`CacheManager::get_mutable`] opens it again.
    pub cached_retain: bool,
    /// When it was made, if not now.
    pub created_at: Option<SystemTime>,
}

/// Keeps records of trees. Cheap to clone.
#[derive(Clone)]
pub struct CacheManager {
    pub(crate) inner: Arc<Inner>,
}

/// What follows the release of a handle.
pub(crate) enum Cleanup {
    Discard(ActiveKey),
    Measure(RefId),
    RemoveOrphans(open::Orphans),
    SweepBlobs,
}

pub(crate) struct Inner {
    pub(crate) snapshotter: Arc<dyn Snapshotter>,
    pub(crate) metadata: Arc<dyn MetadataStore>,
    pub(crate) content: Arc<dyn ContentStore>,
    pub(crate) graph: Mutex<Graph>,
    pub(crate) mounter: LocalMounter,
    pub(crate) root: PathBuf,
    pub(crate) clock: fn() -> SystemTime,
    pub(crate) blobs: Blobs,
    pub(crate) unpacks: Unpacks,
    pub(crate) makes: Makes,
    /// Layers that may still be unpacked at the same time.
    pub(crate) unpackers: Semaphore,
    /// Held while a record for a layer is looked for and made.
    pub(crate) layering: Mutex<()>,
    /// Gate: one collection at a time.
    pub(crate) pruning: tokio::sync::Mutex<()>,
    pub(crate) cleanup: mpsc::UnboundedSender<Cleanup>,
    /// Cleanups sent and not done.
    pub(crate) pending: AtomicUsize,
    pub(crate) idle: Notify,
}

impl CacheManager {
    /// Opens the cache. Records whose snapshots are gone are dropped, snapshots without a record are
    /// removed in the background.
    ///
    /// # Errors
    /// When snapshots or metadata cannot be listed.
    pub async fn open(options: CacheOptions) -> Result<Self, Error> {
        Ok(Self { inner: open::open(options).await? })
    }

    /// Where the files are.
    pub fn snapshotter(&self) -> &Arc<dyn Snapshotter> {
        &self.inner.snapshotter
    }

    /// Where records and what others keep with them are.
    pub fn metadata_store(&self) -> &Arc<dyn MetadataStore> {
        &self.inner.metadata
    }

    /// Where layers are as blobs.
    pub fn content(&self) -> &Arc<dyn ContentStore> {
        &self.inner.content
    }

    /// Makes mounts visible to this process.
    pub fn mounter(&self) -> &LocalMounter {
        &self.inner.mounter
    }

    /// A new tree on top of another, or an empty one.
    ///
    /// # Errors
    /// When the snapshot cannot be made.
    pub async fn create(
        &self,
        parent: Option<&ImmutableRef>,
        options: CreateOptions,
    ) -> Result<MutableRef, Error> {
        let (inner, parent) = (self.inner.clone(), parent.cloned());
        let below = match &parent {
            Some(parent) => Some(inner.materialize(parent.id()).await?),
            None => None,
        };
        uncancelled("create a cache record", async move {
            let id = RefId::random();
            let key = ActiveKey(id.as_str().to_owned());
            inner
                .snapshotter
                .prepare(&key, below.as_ref())
                .await
                .map_err(Error::snapshot(format!("make a snapshot for cache record `{id}`")))?;
            let parents = Parents::Layer(parent.as_ref().map(|parent| parent.id().clone()));
            let state = State::Mutable { key: key.clone(), sealed: None };
            let handle = inner.insert(id, parents, state, None, options).inspect_err(|_| {
                inner.send(Cleanup::Discard(key));
            })?;
            Ok(MutableRef { handle })
        })
        .await
    }

    /// The tree of a record that does not change, or of a retained one that nobody changes now.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Locked`] while somebody changes it.
    pub async fn get(&self, id: &RefId) -> Result<ImmutableRef, Error> {
        match self.acquire(id)? {
            Some(id) => Ok(self.inner.immutable(id)),
            None => {
                let handle = Handle { inner: self.inner.clone(), id: id.clone() };
                self.inner.commit(MutableRef { handle }).await
            }
        }
    }

    /// Takes a handle on a record or on its sealed twin, whose id is returned. `None` is the only
    /// handle on a retained record that has no twin yet.
    fn acquire(&self, id: &RefId) -> Result<Option<RefId>, Error> {
        let mut graph = self.inner.graph.lock();
        let record = graph.get(id)?;
        let id = match &record.state {
            State::Mutable { .. } if record.refs > 0 => return Err(Error::Locked(id.clone())),
            State::Mutable { sealed: Some(twin), .. } => twin.clone(),
            State::Mutable { sealed: None, .. } => {
                graph.acquire_mutable(id)?;
                return Ok(None);
            }
            _ => id.clone(),
        };
        graph.acquire(&id)?;
        Ok(Some(id))
    }

    /// Opens a retained record again, to go on changing it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Locked`] while somebody holds it or its result, or
    /// [`Error::NotMutable`].
    pub async fn get_mutable(&self, id: &RefId) -> Result<MutableRef, Error> {
        let mut graph = self.inner.graph.lock();
        let twin = graph.acquire_mutable(id)?;
        let mut batch = Batch::new();
        if let Some(twin) = twin {
            self.inner.forget(&mut batch, &twin, None);
        }
        store::put(&mut batch, id, graph.get(id)?);
        let handle = Handle { inner: self.inner.clone(), id: id.clone() };
        let applied = self.inner.apply("open a cache record", batch);
        // The handle may be dropped, which takes the lock.
        drop(graph);
        applied?;
        Ok(MutableRef { handle })
    }

    /// Trees laid over each other, later over earlier. The files are made when they are needed.
    ///
    /// # Errors
    /// When a parent cannot be used.
    pub async fn merge(
        &self,
        parents: &[ImmutableRef],
        options: CreateOptions,
    ) -> Result<ImmutableRef, Error> {
        let mut ids = Vec::with_capacity(parents.len());
        for parent in parents {
            self.inner.finalize(parent.id()).await?;
            match &self.inner.graph.lock().get(parent.id())?.parents {
                Parents::Merge(inner) => ids.extend(inner.iter().cloned()),
                _ => ids.push(parent.id().clone()),
            }
        }
        let handle = self.inner.insert(RefId::random(), Parents::Merge(ids), State::Lazy, None, options)?;
        Ok(ImmutableRef { handle: Arc::new(handle) })
    }

    /// What changes from one tree to another. The files are made when they are needed. `None` is the
    /// empty tree, on either side and as result.
    ///
    /// # Errors
    /// When a side cannot be used.
    pub async fn diff(
        &self,
        lower: Option<&ImmutableRef>,
        upper: Option<&ImmutableRef>,
        options: CreateOptions,
    ) -> Result<Option<ImmutableRef>, Error> {
        let (lower, upper) = match (lower, upper) {
            (None, upper) => return Ok(upper.cloned()),
            (Some(lower), Some(upper)) if lower.id() == upper.id() => return Ok(None),
            (Some(lower), upper) => (lower, upper),
        };
        for side in std::iter::once(lower).chain(upper) {
            self.inner.finalize(side.id()).await?;
        }
        let parents =
            Parents::Diff { lower: Some(lower.id().clone()), upper: upper.map(|upper| upper.id().clone()) };
        let handle = self.inner.insert(RefId::random(), parents, State::Lazy, None, options)?;
        Ok(Some(ImmutableRef { handle: Arc::new(handle) }))
    }

    /// Records that [`RefMetadata::set_indexed`] gave this index, in no order.
    pub fn search(&self, index: &str) -> Vec<RefId> {
        let prefix = joined(index, "");
        match self.inner.metadata.range(INDEXES, &prefix) {
            Ok(entries) => entries
                .iter()
                .filter_map(|entry| std::str::from_utf8(&entry.key[prefix.len()..]).ok())
                .map(RefId::new)
                .filter(|id| self.exists(id))
                .collect(),
            Err(error) => {
                tracing::warn!(%error, index, "cache index not read");
                Vec::new()
            }
        }
    }

    /// Whether there is a record of this id.
    pub fn exists(&self, id: &RefId) -> bool {
        self.inner.graph.lock().records.contains_key(id)
    }

    /// What is known about a record. `None` if there is no such record.
    pub fn metadata(&self, id: &RefId) -> Option<RefMetadata> {
        self.exists(id).then(|| RefMetadata::new(self.inner.clone(), id.clone()))
    }

    /// Records that one of the filters chooses, not used for `age_limit`.
    ///
    /// # Errors
    /// When a filter is wrong.
    pub async fn disk_usage<S: AsRef<str>>(
        &self,
        filters: &[S],
        age_limit: Option<Duration>,
    ) -> Result<Vec<UsageRecord>, Error> {
        let filter = Filter::parse(filters)?;
        self.inner.measure_all().await;
        let mut records = self.inner.graph.lock().usage();
        let cut_off = age_limit.and_then(|limit| (self.inner.clock)().checked_sub(limit));
        records.retain(|record| {
            let recent =
                cut_off.is_some_and(|cut_off| record.last_used_at.is_some_and(|used| used > cut_off));
            !recent && record.matches(&filter)
        });
        Ok(records)
    }

    /// Removes what the policies choose, and tells of each record once it is gone.
    ///
    /// # Errors
    /// When a filter is wrong or the disk cannot be asked.
    pub async fn prune(
        &self,
        policies: &[GcPolicy],
        on_freed: impl FnMut(UsageRecord) + Send,
    ) -> Result<(), Error> {
        prune::prune(&self.inner, policies, on_freed).await
    }

    /// Whether the disk that holds the cache has no room. `false` if it cannot be asked.
    pub async fn is_disk_full(&self) -> bool {
        let root = self.inner.root.clone();
        matches!(spawn_blocking(move || buildkit_util_disk::is_full(&root)).await, Ok(Ok(true)))
    }

    /// Handles that are held, for tests of leaks.
    pub fn live_refs(&self) -> u64 {
        self.inner.graph.lock().records.values().map(|record| u64::from(record.refs)).sum()
    }

    /// Waits until all that was released is cleaned up.
    pub async fn drain(&self) {
        self.inner.drained().await;
    }

    /// Waits until all that was released is cleaned up and all metadata is written.
    pub async fn close(&self) {
        self.inner.drained().await;
        let metadata = self.inner.metadata.clone();
        match spawn_blocking(move || metadata.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cache metadata not flushed"),
            Err(error) => tracing::warn!(%error, "cache metadata not flushed"),
        }
    }
}

impl Inner {
    pub(crate) fn apply(&self, action: &'static str, batch: Batch) -> Result<(), Error> {
        self.metadata.apply(batch).map_err(|source| Error::Metadata { action, source })
    }

    /// Changes a record and stores it.
    pub(crate) fn update(&self, id: &RefId, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let mut batch = Batch::new();
        let mut graph = self.graph.lock();
        let record = graph.get_mut(id)?;
        change(record);
        store::put(&mut batch, id, record);
        self.apply("store a cache record", batch)
    }

    /// Removes all that is stored of a record.
    pub(crate) fn forget(&self, batch: &mut Batch, id: &RefId, record: Option<&Record>) {
        batch.delete(RECORDS, id.as_str().to_owned());
        for index in record.iter().flat_map(|record| &record.facts.indexes) {
            batch.delete(INDEXES, joined(index, id.as_str()));
        }
        for entry in self.metadata.range(VALUES, &joined(id.as_str(), "")).unwrap_or_default() {
            batch.delete(VALUES, entry.key);
        }
    }

    pub(crate) fn send(&self, cleanup: Cleanup) {
        self.pending.fetch_add(1, Ordering::SeqCst);
        if self.cleanup.send(cleanup).is_err() {
            // The runtime is going down; the next start cleans up.
            self.cleaned();
        }
    }

    pub(crate) fn cleaned(&self) {
        if self.pending.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.idle.notify_waiters();
        }
    }

    async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.pending.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(crate) fn immutable(self: &Arc<Self>, id: RefId) -> ImmutableRef {
        ImmutableRef { handle: Arc::new(Handle { inner: self.clone(), id }) }
    }

    /// Adds a record with one handle on it.
    fn insert(
        self: &Arc<Self>,
        id: RefId,
        parents: Parents,
        state: State,
        blob: Option<LayerBlob>,
        options: CreateOptions,
    ) -> Result<Handle, Error> {
        let facts = Facts {
            description: options.description,
            record_type: options.record_type,
            retain: options.cached_retain,
            created_at: options.created_at.unwrap_or_else(self.clock),
            last_used_at: None,
            usage_count: 0,
            size: None,
            indexes: Default::default(),
            blob,
            variants: Default::default(),
        };
        let record = Record::new(parents, state, facts, 1);
        let mut batch = Batch::new();
        store::put(&mut batch, &id, &record);
        {
            let mut graph = self.graph.lock();
            graph.insert(id.clone(), record)?;
            self.apply("store a cache record", batch)?;
        }
        Ok(Handle { inner: self.clone(), id })
    }

    /// Adds a record whose files are in a blob.
    pub(crate) fn insert_layer(
        self: &Arc<Self>,
        parent: Option<&ImmutableRef>,
        blob: &LayerBlob,
        options: CreateOptions,
    ) -> Result<ImmutableRef, Error> {
        let parents = Parents::Layer(parent.map(|parent| parent.id().clone()));
        let handle = self.insert(RefId::random(), parents, State::Lazy, Some(blob.clone()), options)?;
        Ok(ImmutableRef { handle: Arc::new(handle) })
    }

    /// Lets go of a record. Never blocks: what takes time is done in the background.
    pub(crate) fn release(&self, id: &RefId) {
        let now = (self.clock)();
        let mut batch = Batch::new();
        let mut graph = self.graph.lock();
        match graph.release(id, now) {
            Released::Held => {}
            Released::Gone(key) => {
                self.forget(&mut batch, id, None);
                self.send(Cleanup::Discard(key));
            }
            Released::Changed(ids) => {
                for id in ids {
                    let Some(record) = graph.records.get(&id) else { continue };
                    store::put(&mut batch, &id, record);
                    if matches!(record.state, State::Mutable { sealed: None, .. })
                        && record.facts.size.is_none()
                    {
                        self.send(Cleanup::Measure(id));
                    }
                }
            }
        }
        if let Err(error) = self.apply("store a cache record", batch) {
            tracing::warn!(%error, "release of a cache record not stored");
        }
    }
}

/// Runs work that must come to its end even if the one who waits for it leaves: a snapshot and its
/// record belong together.
pub(crate) async fn uncancelled<T: Send + 'static>(
    action: &'static str,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    detach(action, async move {
        // Nobody listens any more: the result is dropped, which releases it.
        let _ = sender.send(work.await);
    });
    receiver.await.unwrap_or_else(|_| Err(Error::Interrupted { action, reason: "it was aborted".to_owned() }))
}

/// Runs work that several wait for in a task of its own, so that it goes on whichever of them is looking, and
/// ends it when the last of them leaves.
pub(crate) async fn shared<T: Send + 'static>(
    action: &'static str,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Arc<Error>> {
    match spawn(work).await {
        Ok(result) => result.map_err(Arc::new),
        Err(error) => Err(Arc::new(Error::Interrupted { action, reason: error.to_string() })),
    }
}
