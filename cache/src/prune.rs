use std::sync::Arc;
use std::time::Duration;

use buildkit_cache_metadata::Batch;
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_disk::{Space, space};

use crate::blobs::KEPT;
use crate::gc::plan;
use crate::manager::{Inner, uncancelled};
use crate::record::{Graph, Record, State};
use crate::{Error, GcPolicy, RefId, UsageRecord};

/// Plans made when records of a plan were taken back into use meanwhile.
const ATTEMPTS: usize = 3;

/// Removes what the policies choose. Only one collection runs at a time; builds are never blocked.
pub(crate) async fn prune(
    inner: &Arc<Inner>,
    policies: &[GcPolicy],
    mut on_freed: impl FnMut(UsageRecord) + Send,
) -> Result<(), Error> {
    let _one = inner.pruning.lock().await;
    // What is kept because images that were used lately may be used again goes when everything is to go.
    let everything = policies.iter().any(|policy| policy.all && policy.keep_duration.is_zero());
    inner.sweep(if everything { Duration::ZERO } else { KEPT }).await;
    for _ in 0..ATTEMPTS {
        inner.measure_all().await;
        let space = disk_space(inner, policies).await?;
        let records = inner.graph.lock().usage();
        let chosen = plan(&records, policies, (inner.clock)(), space)?;
        let mut left = 0;
        for id in chosen {
            let inner = inner.clone();
            let removed = uncancelled("remove a cache record", async move { Ok(remove(&inner, &id).await) });
            match removed.await? {
                Some(record) => on_freed(record),
                None => left += 1,
            }
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Free space matters to policies that ask for some.
async fn disk_space(inner: &Arc<Inner>, policies: &[GcPolicy]) -> Result<Space, Error> {
    if policies.iter().all(|policy| policy.min_free_space <= 0) {
        return Ok(Space::default());
    }
    let action = "read the free space of the cache";
    let root = inner.root.clone();
    match spawn_blocking(move || space(&root)).await {
        Ok(space) => space.map_err(|source| Error::Io { action, source }),
        Err(error) => Err(Error::Interrupted { action, reason: error.to_string() }),
    }
}

/// Removes a record if still nobody holds it, and then its files.
async fn remove(inner: &Inner, id: &RefId) -> Option<UsageRecord> {
    let (usage, taken) = {
        let mut batch = Batch::new();
        let mut graph = inner.graph.lock();
        let usage = usage_of(id, graph.records.get(id)?, &graph);
        let taken = graph.take_unused(id)?;
        for (id, record) in &taken {
            inner.forget(&mut batch, id, Some(record));
        }
        // The record goes first: files without a record are removed at the next start.
        if let Err(error) = inner.apply("remove a cache record", batch) {
            tracing::warn!(%error, %id, "removal of a cache record not stored");
        }
        (usage, taken)
    };
    let blobs = taken.iter().flat_map(|(_, record)| record.facts.blobs().cloned()).collect();
    for (id, record) in taken {
        let removed = match record.state {
            State::Mutable { key, .. } => inner.snapshotter.discard(&key).await,
            State::Ready { snapshot } => inner.snapshotter.remove(&snapshot).await,
            State::Sealed { .. } | State::Lazy => Ok(()),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, %id, "files of a cache record not removed");
        }
    }
    inner.remove_blobs(blobs).await;
    Some(usage)
}

fn usage_of(id: &RefId, record: &Record, graph: &Graph) -> UsageRecord {
    UsageRecord {
        id: id.clone(),
        mutable: matches!(record.state, State::Mutable { .. }),
        in_use: false,
        size: i64::try_from(graph.size_of(&record.facts).unwrap_or(0)).unwrap_or(i64::MAX),
        created_at: record.facts.created_at,
        last_used_at: record.facts.last_used_at,
        usage_count: record.facts.usage_count,
        parents: record.parents.ids().into_iter().cloned().collect(),
        description: record.facts.description.clone(),
        record_type: record.facts.record_type,
        shared: false,
    }
}
