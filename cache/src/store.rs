use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buildkit_cache_metadata::{Batch, Bucket};
use buildkit_snapshot::{ActiveKey, SnapshotName};
use buildkit_util_ocispec::Descriptor;
use serde::{Deserialize, Serialize};

use crate::record::{Facts, Parents, Record, State};
use crate::{LayerBlob, RecordType, RefId};

/// Records, by id, as JSON.
pub(crate) const RECORDS: Bucket = Bucket::new("cache.records");
/// What others keep with a record: id, NUL, name.
pub(crate) const VALUES: Bucket = Bucket::new("cache.values");
/// Records by what they are looked for: index, NUL, id.
pub(crate) const INDEXES: Bucket = Bucket::new("cache.indexes");

#[derive(Serialize, Deserialize)]
struct Stored {
    parents: StoredParents,
    state: StoredState,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(rename = "type")]
    record_type: RecordType,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    retain: bool,
    /// Nanoseconds since 1970.
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    #[serde(default)]
    count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    indexes: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<LayerBlob>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    variants: BTreeMap<String, Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredParents {
    Layer(Option<RefId>),
    Merge(Vec<RefId>),
    Diff(Option<RefId>, Option<RefId>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredState {
    Mutable(String),
    Sealed(RefId),
    Lazy,
    Ready(String),
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Writes a record, if it is to outlive the process.
pub(crate) fn put(batch: &mut Batch, id: &RefId, record: &Record) {
    if !record.is_persistent() {
        return;
    }
    let stored = Stored {
        parents: match &record.parents {
            Parents::Layer(parent) => StoredParents::Layer(parent.clone()),
            Parents::Merge(parents) => StoredParents::Merge(parents.clone()),
            Parents::Diff { lower, upper } => StoredParents::Diff(lower.clone(), upper.clone()),
        },
        state: match &record.state {
            State::Mutable { key, .. } => StoredState::Mutable(key.0.clone()),
            State::Sealed { of } => StoredState::Sealed(of.clone()),
            State::Lazy => StoredState::Lazy,
            State::Ready { snapshot } => StoredState::Ready(snapshot.0.clone()),
        },
        description: record.facts.description.clone(),
        record_type: record.facts.record_type,
        retain: record.facts.retain,
        created: nanos(record.facts.created_at),
        used: record.facts.last_used_at.map(nanos),
        count: record.facts.usage_count,
        size: record.facts.size,
        indexes: record.facts.indexes.clone(),
        blob: record.facts.blob.clone(),
        variants: record.facts.variants.clone(),
    };
    match serde_json::to_vec(&stored) {
        Ok(bytes) => drop(batch.put(RECORDS, id.as_str().to_owned(), bytes)),
        Err(error) => tracing::error!(%error, %id, "cache record not stored"),
    }
}

/// Reads a record back. `None` for what is damaged.
pub(crate) fn parse(bytes: &[u8]) -> Option<Record> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let parents = match stored.parents {
        StoredParents::Layer(parent) => Parents::Layer(parent),
        StoredParents::Merge(parents) => Parents::Merge(parents),
        StoredParents::Diff(lower, upper) => Parents::Diff { lower, upper },
    };
    let state = match stored.state {
        StoredState::Mutable(key) => State::Mutable { key: ActiveKey(key), sealed: None },
        StoredState::Sealed(of) => State::Sealed { of },
        StoredState::Lazy => State::Lazy,
        StoredState::Ready(name) => State::Ready { snapshot: SnapshotName(name) },
    };
    let facts = Facts {
        description: stored.description,
        record_type: stored.record_type,
        retain: stored.retain,
        created_at: time(stored.created),
        last_used_at: stored.used.map(time),
        usage_count: stored.count,
        size: stored.size,
        indexes: stored.indexes,
        blob: stored.blob,
        variants: stored.variants,
    };
    Some(Record::new(parents, state, facts, 0))
}

/// A key of two parts.
pub(crate) fn joined(first: &str, second: &str) -> Vec<u8> {
    [first.as_bytes(), b"\0", second.as_bytes()].concat()
}
