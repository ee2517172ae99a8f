use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use buildkit_cache_metadata::Batch;
use buildkit_snapshot::{ActiveKey, Info, LocalMounter, SnapshotKind, SnapshotName, Snapshotter};
use buildkit_util_appcontext::{detach, spawn_blocking};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::blobs::{Blobs, KEPT};
use crate::layers::Makes;
use crate::manager::{CacheOptions, Cleanup, Inner};
use crate::record::{Graph, Parents, Record, State};
use crate::store::{self, INDEXES, RECORDS, VALUES};
use crate::unpack::{UNPACKERS, Unpacks};
use crate::{Error, RefId};

/// Cleanups that run at the same time.
const CLEANERS: usize = 4;

/// Snapshots that no record owns, those on top first.
pub(crate) struct Orphans {
    active: Vec<ActiveKey>,
    committed: Vec<SnapshotName>,
}

pub(crate) async fn open(options: CacheOptions) -> Result<Arc<Inner>, Error> {
    let CacheOptions { snapshotter, metadata, content, mount_root, root, clock } = options;
    let opened = spawn_blocking(move || LocalMounter::open(mount_root)).await;
    let mounter = match opened {
        Ok(mounter) => mounter.map_err(Error::snapshot("open the cache"))?,
        Err(error) => {
            return Err(Error::Interrupted { action: "open the cache", reason: error.to_string() });
        }
    };
    let failed = |source| Error::Metadata { action: "read the cache records", source };
    let snapshots = snapshotter.list().await.map_err(Error::snapshot("list snapshots"))?;
    let stored = metadata.range(RECORDS, b"").map_err(failed)?;
    let mut records = HashMap::with_capacity(stored.len());
    let mut dropped = HashSet::new();
    for entry in stored {
        let Ok(id) = std::str::from_utf8(&entry.key) else { continue };
        match store::parse(&entry.value) {
            Some(record) => drop(records.insert(RefId::new(id), record)),
            None => drop(dropped.insert(RefId::new(id))),
        }
    }
    let repaired = reconcile(&mut records, &snapshots, &mut dropped);
    let mut batch = Batch::new();
    for id in &repaired {
        if let Some(record) = records.get(id) {
            store::put(&mut batch, id, record);
        }
    }
    for id in &dropped {
        batch.delete(RECORDS, id.as_str().to_owned());
    }
    // Values and indexes of records that are gone, whatever the reason.
    for entry in metadata.range(VALUES, b"").map_err(failed)? {
        if !split_first(&entry.key).is_some_and(|id| records.contains_key(&RefId::new(id))) {
            batch.delete(VALUES, entry.key);
        }
    }
    for entry in metadata.range(INDEXES, b"").map_err(failed)? {
        if !split_last(&entry.key).is_some_and(|id| records.contains_key(&RefId::new(id))) {
            batch.delete(INDEXES, entry.key);
        }
    }
    metadata.apply(batch).map_err(failed)?;
    if !dropped.is_empty() {
        tracing::warn!(records = dropped.len(), "dropped cache records without files");
    }
    let listing = content.clone();
    let stored = match spawn_blocking(move || listing.list()).await {
        Ok(Ok(listed)) => listed.into_iter().map(|info| (info.digest, info.size)).collect(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "blobs not listed");
            HashMap::new()
        }
        Err(error) => {
            return Err(Error::Interrupted { action: "open the cache", reason: error.to_string() });
        }
    };
    let orphans = orphans(&records, &snapshots);
    let (sender, receiver) = mpsc::unbounded_channel();
    let inner = Arc::new(Inner {
        snapshotter,
        metadata,
        content,
        graph: Mutex::new(Graph::new(records, stored)),
        mounter,
        root,
        clock,
        blobs: Blobs::default(),
        unpacks: Unpacks::new(),
        makes: Makes::new(),
        unpackers: Semaphore::new(UNPACKERS),
        layering: Mutex::new(()),
        pruning: tokio::sync::Mutex::default(),
        cleanup: sender,
        pending: AtomicUsize::new(0),
        idle: tokio::sync::Notify::new(),
    });
    start_cleaner(&inner, receiver);
    if !orphans.active.is_empty() || !orphans.committed.is_empty() {
        inner.send(Cleanup::RemoveOrphans(orphans));
    }
    inner.send(Cleanup::SweepBlobs);
    Ok(inner)
}

/// Brings records and snapshots together: drops records that have no files or no parents any more,
/// links twins, counts children. Returns what has to be stored again.
fn reconcile(
    records: &mut HashMap<RefId, Record>,
    snapshots: &[Info],
    dropped: &mut HashSet<RefId>,
) -> Vec<RefId> {
    let of_kind = |kind: SnapshotKind| -> HashSet<&str> {
        snapshots.iter().filter(|info| info.kind == kind).map(|info| info.name.as_str()).collect()
    };
    let (active, committed) = (of_kind(SnapshotKind::Active), of_kind(SnapshotKind::Committed));
    let mutable: HashSet<RefId> = records
        .iter()
        .filter(|(_, record)| matches!(&record.state, State::Mutable { key, .. } if active.contains(key.0.as_str())))
        .map(|(id, _)| id.clone())
        .collect();
    let mut repaired = Vec::new();
    records.retain(|id, record| {
        let keep = match &record.state {
            State::Mutable { .. } => mutable.contains(id),
            State::Ready { snapshot } => committed.contains(snapshot.0.as_str()),
            State::Lazy => record.facts.blob.is_some() || !matches!(record.parents, Parents::Layer(_)),
            State::Sealed { of } if mutable.contains(of) => true,
            // The process ended between the commit of its snapshot and that of its record.
            State::Sealed { .. } if committed.contains(id.as_str()) => {
                record.state = State::Ready { snapshot: SnapshotName(id.as_str().to_owned()) };
                repaired.push(id.clone());
                true
            }
            State::Sealed { .. } => false,
        };
        if !keep {
            dropped.insert(id.clone());
        }
        keep
    });
    drop_without_parents(records, dropped);
    let mut children: HashMap<RefId, u32> = HashMap::new();
    let mut twins: HashMap<RefId, RefId> = HashMap::new();
    for (id, record) in records.iter() {
        for parent in record.parents.ids() {
            *children.entry(parent.clone()).or_default() += 1;
        }
        if let State::Sealed { of } = &record.state {
            twins.insert(of.clone(), id.clone());
        }
    }
    for (id, record) in records.iter_mut() {
        record.children = children.get(id).copied().unwrap_or(0);
        if let State::Mutable { sealed, .. } = &mut record.state {
            *sealed = twins.remove(id);
        }
    }
    repaired
}

fn drop_without_parents(records: &mut HashMap<RefId, Record>, dropped: &mut HashSet<RefId>) {
    let mut made_of: HashMap<RefId, Vec<RefId>> = HashMap::new();
    let mut pending = Vec::new();
    for (id, record) in records.iter() {
        for parent in record.parents.ids() {
            if records.contains_key(parent) {
                made_of.entry(parent.clone()).or_default().push(id.clone());
            } else {
                pending.push(id.clone());
            }
        }
        // A sealed record ends with its twin.
        if let State::Sealed { of } = &record.state {
            made_of.entry(of.clone()).or_default().push(id.clone());
        }
    }
    while let Some(id) = pending.pop() {
        if records.remove(&id).is_some() {
            pending.extend(made_of.remove(&id).unwrap_or_default());
            dropped.insert(id);
        }
    }
}

fn orphans(records: &HashMap<RefId, Record>, snapshots: &[Info]) -> Orphans {
    let mut owned_active = HashSet::new();
    let mut owned = HashSet::new();
    for record in records.values() {
        match &record.state {
            State::Mutable { key, .. } => drop(owned_active.insert(key.0.as_str())),
            State::Ready { snapshot } => drop(owned.insert(snapshot.0.as_str())),
            State::Sealed { .. } | State::Lazy => {}
        }
    }
    let mut found = Orphans { active: Vec::new(), committed: Vec::new() };
    let parents: HashMap<&str, Option<&str>> = snapshots
        .iter()
        .filter(|info| info.kind == SnapshotKind::Committed)
        .map(|info| (info.name.as_str(), info.parent.as_ref().map(|parent| parent.0.as_str())))
        .collect();
    let depth = |name: &str| {
        let (mut depth, mut at) = (0usize, parents.get(name).copied().flatten());
        while let Some(parent) = at {
            depth += 1;
            at = parents.get(parent).copied().flatten();
        }
        depth
    };
    for info in snapshots {
        match info.kind {
            SnapshotKind::Active if !owned_active.contains(info.name.as_str()) => {
                found.active.push(ActiveKey(info.name.clone()));
            }
            SnapshotKind::Committed if !owned.contains(info.name.as_str()) => {
                found.committed.push(SnapshotName(info.name.clone()));
            }
            _ => {}
        }
    }
    found.committed.sort_by_cached_key(|name| std::cmp::Reverse(depth(&name.0)));
    found
}

fn split_first(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.split_once('\0').map(|(first, _)| first)
}

fn split_last(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.rsplit_once('\0').map(|(_, last)| last)
}

/// Starts the task that does what follows releases. It ends with the last handle.
fn start_cleaner(inner: &Arc<Inner>, receiver: mpsc::UnboundedReceiver<Cleanup>) {
    let (weak, snapshotter) = (Arc::downgrade(inner), inner.snapshotter.clone());
    detach("cache cleanup", async move {
        UnboundedReceiverStream::new(receiver)
            .for_each_concurrent(CLEANERS, |cleanup| clean(&weak, &snapshotter, cleanup))
            .await;
    });
}

async fn clean(inner: &Weak<Inner>, snapshotter: &Arc<dyn Snapshotter>, cleanup: Cleanup) {
    match cleanup {
        Cleanup::Discard(key) => {
            if let Err(error) = snapshotter.discard(&key).await {
                tracing::warn!(%error, "files of a released record not removed");
            }
        }
        Cleanup::Measure(id) => {
            if let Some(inner) = inner.upgrade() {
                inner.measure(&id).await;
            }
        }
        Cleanup::SweepBlobs => {
            if let Some(inner) = inner.upgrade() {
                inner.sweep(KEPT).await;
            }
        }
        Cleanup::RemoveOrphans(orphans) => {
            for key in &orphans.active {
                if let Err(error) = snapshotter.discard(key).await {
                    tracing::warn!(%error, "snapshot without a record not removed");
                }
            }
            for name in &orphans.committed {
                if let Err(error) = snapshotter.remove(name).await {
                    tracing::warn!(%error, "snapshot without a record not removed");
                }
            }
        }
    }
    if let Some(inner) = inner.upgrade() {
        inner.cleaned();
    }
}
