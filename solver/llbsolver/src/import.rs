//! One cache of elsewhere, as the solver asks it.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use buildkit_cache_remotecache_v1::Records;
use buildkit_solver::{
    CacheKeyStore, KeyId, KeySource, Link, LinkQuery, MemoryKeyStore, NewKey, OutputIndex, Parent, Record,
    ResultId, StoreError, derived_key, root_key,
};
use buildkit_util_cachedigest::{Digest, Digester};
use buildkit_util_ocispec::Descriptor;
use parking_lot::Mutex;

/// What ids of results begin with that are elsewhere; the number of their import follows.
const PREFIX: &str = "import:";

/// Below that of results that are here.
pub(crate) const PRIORITY: i32 = -1;

/// The keys and results of one cache. Records of others name keys by their digests only: what a key is made of
/// is learned from the question that finds it.
pub(crate) struct Import {
    /// Keys with links whose digests have the output folded in already; their outputs say nothing.
    keys: MemoryKeyStore,
    /// All layers; results share them.
    layers: Vec<Descriptor>,
    results: HashMap<ResultId, ImportedResult>,
    /// What keys were found by: the digest and output behind the one that is folded.
    found: Mutex<HashMap<KeyId, (Digest, OutputIndex)>>,
    /// Keys whose records were asked for.
    asked: Mutex<HashSet<KeyId>>,
    /// Keys whose ways were given out to be kept.
    kept: Mutex<HashSet<KeyId>>,
}

/// A result.
pub(crate) struct ImportedResult {
    /// Places of its layers, lowest first.
    layers: Box<[usize]>,
    created_at: SystemTime,
}

/// A key that was asked for and has a result.
pub(crate) struct FoundKey {
    pub(crate) key: KeyId,
    /// How many of the layers its result has, from the lowest.
    pub(crate) layers: usize,
    pub(crate) created_at: SystemTime,
}

/// The number of the import that has a result; `None` for results that are here.
pub(crate) fn import_of(result: &ResultId) -> Option<u64> {
    result.0.strip_prefix(PREFIX)?.split_once(':')?.0.parse().ok()
}

impl Import {
    /// What some records say; `number` tells this import from others.
    pub(crate) fn new(number: u64, records: &Records) -> Result<Self, StoreError> {
        let (keys, mut results) = (MemoryKeyStore::new(), HashMap::new());
        let mut ids: Vec<KeyId> = Vec::with_capacity(records.records.len());
        for record in &records.records {
            let parents = record.inputs.iter().map(|links| {
                let parent = |link: &buildkit_cache_remotecache_v1::Link| {
                    Some(Parent { key: ids.get(link.record)?.clone(), selector: link.selector.clone() })
                };
                links.iter().filter_map(parent).collect()
            });
            let parents: Vec<Vec<Parent>> = parents.collect();
            let new = NewKey { digest: record.digest.clone(), output: 0, parents, preimage: None };
            let id = match new.parents.is_empty() {
                true => KeyId(record.digest.clone()),
                false => derived_key(&new),
            };
            for (input, parents) in (0..).zip(&new.parents) {
                for Parent { key, selector } in parents {
                    let (digest, selector) = (new.digest.clone(), selector.clone());
                    keys.add_link(key, &Link { input, digest, output: 0, selector }, &id)?;
                }
            }
            for result in &record.results {
                let Some(name) = name_of(records, &result.layers) else { continue };
                let result_id = ResultId(format!("{PREFIX}{number}:{name}"));
                let created_at = result.created_at.into();
                keys.add_record(&id, &Record { result: result_id.clone(), created_at, priority: PRIORITY })?;
                let layers = result.layers.clone().into_boxed_slice();
                results.insert(result_id, ImportedResult { layers, created_at });
            }
            ids.push(id);
        }
        Ok(Self {
            keys,
            layers: records.layers.clone(),
            results,
            found: Mutex::default(),
            asked: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    pub(crate) fn has(&self, result: &ResultId) -> bool {
        self.results.contains_key(result)
    }

    /// The layers of a result, lowest first.
    pub(crate) fn layers(&self, result: &ResultId) -> Option<Vec<Descriptor>> {
        let places = &self.results.get(result)?.layers;
        Some(places.iter().filter_map(|place| self.layers.get(*place)).cloned().collect())
    }

    /// The keys of a result and of those that have the lowest of its layers, as far as somebody asked for them.
    pub(crate) fn found_below(&self, result: &ResultId) -> Result<Vec<FoundKey>, StoreError> {
        let Some(top) = self.results.get(result) else { return Ok(Vec::new()) };
        let mut below = Vec::new();
        for (result, other) in self.results.iter().filter(|(_, other)| top.layers.starts_with(&other.layers))
        {
            for key in self.keys.keys_of(result)? {
                // What nobody asked for is not kept: it may be made up.
                let is_found = self.found.lock().contains_key(&key) || self.asked.lock().contains(&key);
                if is_found {
                    let (layers, created_at) = (other.layers.len(), other.created_at);
                    below.push(FoundKey { key, layers, created_at });
                }
            }
        }
        Ok(below)
    }

    /// The ways on which a key was found, as links from parents to keys; each is given once.
    pub(crate) fn ways_to(&self, key: &KeyId) -> Result<Vec<(KeyId, Link, KeyId)>, StoreError> {
        let (mut ways, mut pending) = (Vec::new(), vec![key.clone()]);
        while let Some(key) = pending.pop() {
            if !self.kept.lock().insert(key.clone()) {
                continue;
            }
            for (parent, link) in self.backlinks(&key)? {
                pending.push(parent.clone());
                ways.push((parent, link, key.clone()));
            }
        }
        Ok(ways)
    }
}

/// A name for a result, made of what its layers are; `None` if it cannot be had. Without what it was before it was
/// compressed, a layer cannot be unpacked.
fn name_of(records: &Records, layers: &[usize]) -> Option<Digest> {
    let mut name = Digester::new();
    for place in layers {
        let layer = records.layers.get(*place)?;
        name.update(layer.digest.as_str());
        name.update(layer.diff_id()?.as_str());
    }
    (!layers.is_empty()).then(|| name.finish())
}

impl KeySource for Import {
    fn query(&self, queries: &[LinkQuery]) -> Result<Vec<Vec<Vec<KeyId>>>, StoreError> {
        let folded: Vec<LinkQuery> = queries
            .iter()
            .map(|query| LinkQuery {
                digest: root_key(&query.digest, Some(query.output)).0,
                output: 0,
                ..query.clone()
            })
            .collect();
        let answers = self.keys.query(&folded)?;
        let mut found = self.found.lock();
        for (query, answer) in queries.iter().zip(&answers) {
            for key in answer.iter().flatten() {
                found.entry(key.clone()).or_insert_with(|| (query.digest.clone(), query.output));
            }
        }
        Ok(answers)
    }

    fn exists(&self, key: &KeyId) -> Result<bool, StoreError> {
        self.keys.exists(key)
    }

    fn records(&self, key: &KeyId) -> Result<Vec<Record>, StoreError> {
        let records = self.keys.records(key)?;
        if !records.is_empty() {
            self.asked.lock().insert(key.clone());
        }
        Ok(records)
    }

    /// The links to a key that was found, as they are here.
    fn backlinks(&self, key: &KeyId) -> Result<Vec<(KeyId, Link)>, StoreError> {
        let Some((digest, output)) = self.found.lock().get(key).cloned() else { return Ok(Vec::new()) };
        let links = self.keys.backlinks(key)?.into_iter();
        Ok(links.map(|(parent, link)| (parent, Link { digest: digest.clone(), output, ..link })).collect())
    }
}
