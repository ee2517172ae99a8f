//! Walks the keys that lead to results, for writing them to a cache elsewhere.
//!
//! The outcome is plain data: records that name earlier records as their inputs. What a record's
//! layers are, and in which format they are written, is the business of who calls.

use std::collections::BTreeSet;
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_util_cachedigest::Digest;
use foldhash::{HashMap, HashSet};

use crate::{ExportableKey, KeyId, KeySource, OutputIndex, Record, ResultId, StoreError, VertexId, root_key};

/// Which results are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportMode {
    /// Of each chain the last result, and of those before it the ones that are remote already.
    Min,
    /// All.
    Max,
    /// Those that are remote already.
    RemoteOnly,
}

/// How a walk goes.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions {
    /// Which results.
    pub mode: ExportMode,
    /// Also results of vertices without inputs.
    pub roots: bool,
    /// Leaves out chains of other builds that lead to the same keys.
    pub only_this_build: bool,
}

/// Makes results movable.
#[async_trait]
pub trait LayerSource: Sync {
    /// What a result is made of elsewhere.
    type Layers: Clone + Send;
    /// Why an export fails.
    type Error: Send;

    /// The layers of a result: those that are remote already or, with `make`, new ones. `None` when
    /// there are none or the result is gone.
    async fn layers(&self, result: &ResultId, make: bool) -> Result<Option<Self::Layers>, Self::Error>;
}

/// A key with its results, in terms that other caches understand.
#[derive(Clone, Debug)]
pub struct ExportRecord<L> {
    /// Digest of the record: that of the cache map with the output, or of the content.
    pub digest: Digest,
    /// Per input the records that lead here. Each stands before this one.
    pub inputs: Vec<Vec<ExportLink>>,
    /// Results, the newest first.
    pub results: Vec<ExportResult<L>>,
}

/// An input of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportLink {
    /// Place of the record.
    pub record: usize,
    /// What is used of it, when not all.
    pub selector: Option<Digest>,
}

/// A result of a record.
#[derive(Clone, Debug)]
pub struct ExportResult<L> {
    /// What it is made of.
    pub layers: L,
    /// When it was made.
    pub created_at: SystemTime,
    /// The vertex of this build that has it.
    pub vertex: Option<VertexId>,
    /// Which of its outputs.
    pub output: Option<OutputIndex>,
}

/// A parent of a key with the selector.
type From = (KeyId, Option<Digest>);

struct Item<L> {
    digest: Digest,
    inputs: Vec<BTreeSet<From>>,
    results: Vec<ExportResult<L>>,
}

/// Walks everything that leads to some keys, as the `stores` that the build looked into know them. Time and memory
/// grow with the number of keys and links; links that would make a circle are left out, and so is a key that has no
/// way from each input.
///
/// # Errors
/// Those of `source`. A store that fails counts as empty.
pub async fn export<S: LayerSource>(
    keys: &[ExportableKey],
    stores: &[&dyn KeySource],
    source: &S,
    options: ExportOptions,
) -> Result<Vec<ExportRecord<S::Layers>>, S::Error> {
    let mut items = HashMap::default();
    let mut order: Vec<KeyId> = Vec::new();
    let mut seen = HashSet::default();
    let mut pending: Vec<(ExportableKey, ExportMode)> =
        keys.iter().rev().map(|key| (key.clone(), options.mode)).collect();
    while let Some((key, mode)) = pending.pop() {
        if !seen.insert(key.address()) {
            continue;
        }
        let item = items.entry(key.id.clone()).or_insert_with(|| {
            order.push(key.id.clone());
            Item { digest: root_key(&key.digest, key.output).0, inputs: Vec::new(), results: Vec::new() }
        });
        let mut mode = mode;
        if item.results.is_empty()
            && let Some(result) = find_result(&key, stores, source, mode, options.roots).await?
        {
            item.results.push(result);
            if mode == ExportMode::Min {
                mode = ExportMode::RemoteOnly;
            }
        }
        item.inputs.resize(item.inputs.len().max(key.deps.len()), BTreeSet::new());
        for (input, deps) in item.inputs.iter_mut().zip(&key.deps) {
            input.extend(deps.iter().map(|dep| (dep.key.id().clone(), dep.selector.clone())));
        }
        pending.extend(key.deps.iter().flatten().rev().map(|dep| (dep.key.clone(), mode)));
    }
    if !options.only_this_build {
        add_backlinks(stores, &mut items, &mut order);
    }
    Ok(arrange(items, &order))
}

/// The newest result of a key that can be had.
async fn find_result<S: LayerSource>(
    key: &ExportableKey,
    stores: &[&dyn KeySource],
    source: &S,
    mode: ExportMode,
    roots: bool,
) -> Result<Option<ExportResult<S::Layers>>, S::Error> {
    let wanted = (roots || !key.deps.is_empty()) && key.output.is_some() && key.export.unwrap_or(true);
    if !wanted {
        return Ok(None);
    }
    let mut records: Vec<Record> = stores.iter().flat_map(|store| known(store.records(key.id()))).collect();
    records.sort_by(|a, b| (b.created_at, b.priority, &a.result).cmp(&(a.created_at, a.priority, &b.result)));
    for record in records {
        if let Some(layers) = source.layers(&record.result, mode != ExportMode::RemoteOnly).await? {
            return Ok(Some(ExportResult {
                layers,
                created_at: record.created_at,
                vertex: key.vertex.clone(),
                output: key.output,
            }));
        }
    }
    Ok(None)
}

/// Adds the chains of other builds to the keys of this one.
fn add_backlinks<L>(stores: &[&dyn KeySource], items: &mut HashMap<KeyId, Item<L>>, order: &mut Vec<KeyId>) {
    let mut next = 0;
    while let Some(key) = order.get(next).cloned() {
        next += 1;
        for (parent, link) in stores.iter().flat_map(|store| known(store.backlinks(&key))) {
            let digest = root_key(&link.digest, Some(link.output)).0;
            let item = items.entry(key.clone()).or_insert_with(|| Item {
                digest: digest.clone(),
                inputs: Vec::new(),
                results: Vec::new(),
            });
            if item.inputs.is_empty() {
                // Known only as somebody's parent until now.
                item.digest.clone_from(&digest);
            }
            if item.digest != digest {
                continue;
            }
            let input = link.input as usize;
            item.inputs.resize(item.inputs.len().max(input + 1), BTreeSet::new());
            if let Some(slot) = item.inputs.get_mut(input) {
                slot.insert((parent.clone(), link.selector));
            }
            if !items.contains_key(&parent) {
                // Without parents of its own, a key is its own digest.
                let item = Item { digest: parent.0.clone(), inputs: Vec::new(), results: Vec::new() };
                items.insert(parent.clone(), item);
                order.push(parent);
            }
        }
    }
}

enum State {
    Open,
    Done(Option<usize>),
}

/// Puts records after those that they need.
fn arrange<L>(mut items: HashMap<KeyId, Item<L>>, order: &[KeyId]) -> Vec<ExportRecord<L>> {
    let mut records: Vec<ExportRecord<L>> = Vec::new();
    let mut states: HashMap<KeyId, State> = HashMap::default();
    for start in order {
        let mut stack = vec![start.clone()];
        while let Some(key) = stack.last().cloned() {
            match states.get(&key) {
                None => {
                    states.insert(key.clone(), State::Open);
                    let parents = items.get(&key).into_iter().flat_map(|item| &item.inputs).flatten();
                    stack.extend(
                        parents.map(|(parent, _)| parent).filter(|key| !states.contains_key(*key)).cloned(),
                    );
                }
                Some(State::Done(_)) => {
                    stack.pop();
                }
                Some(State::Open) => {
                    stack.pop();
                    let record = items.remove(&key).and_then(|item| finish(item, &states));
                    let place = record.is_some().then_some(records.len());
                    records.extend(record);
                    states.insert(key, State::Done(place));
                }
            }
        }
    }
    records
}

/// A record, if each of its inputs has a way.
fn finish<L>(item: Item<L>, states: &HashMap<KeyId, State>) -> Option<ExportRecord<L>> {
    let inputs: Vec<Vec<ExportLink>> = item
        .inputs
        .into_iter()
        .map(|parents| {
            parents
                .into_iter()
                .filter_map(|(parent, selector)| match states.get(&parent) {
                    Some(State::Done(Some(record))) => Some(ExportLink { record: *record, selector }),
                    // A circle, or a parent that has no way itself.
                    _ => None,
                })
                .collect()
        })
        .collect();
    let complete = inputs.iter().all(|input| !input.is_empty());
    complete.then_some(ExportRecord { digest: item.digest, inputs, results: item.results })
}

fn known<T: Default>(answer: Result<T, StoreError>) -> T {
    answer.unwrap_or_else(|error| {
        tracing::warn!(%error, "cache key store failed during an export");
        T::default()
    })
}
