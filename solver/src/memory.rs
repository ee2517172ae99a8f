use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::HashMap;
use parking_lot::RwLock;

use crate::{CacheKeyStore, KeyId, KeySource, Link, LinkQuery, Record, ResultId, StoreError};

/// A store of keys that forgets everything when it is dropped.
#[derive(Default)]
pub struct MemoryKeyStore {
    state: RwLock<State>,
    calls: AtomicU64,
}

#[derive(Default)]
struct State {
    keys: HashMap<KeyId, Entry>,
    results: HashMap<ResultId, BTreeSet<KeyId>>,
}

#[derive(Default)]
struct Entry {
    records: BTreeMap<ResultId, Record>,
    links: HashMap<Link, BTreeSet<KeyId>>,
    parents: BTreeSet<(KeyId, Link)>,
    preimage: Option<Arc<str>>,
    /// When it was last asked for, in calls.
    used: AtomicU64,
}

/// Something that a store no longer holds, for those who keep a copy of it.
#[derive(Clone, Copy, Debug)]
pub enum Removed<'a> {
    /// A record of a key.
    Record(&'a KeyId, &'a ResultId),
    /// A link from a parent to a key.
    Link(&'a KeyId, &'a Link, &'a KeyId),
    /// A key with its preimage.
    Key(&'a KeyId),
}

impl Entry {
    fn is_used(&self) -> bool {
        !self.records.is_empty() || !self.links.is_empty()
    }
}

impl MemoryKeyStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.state.read().keys.len()
    }

    /// Forgets a result as [`CacheKeyStore::release`] does, and tells what went.
    pub fn release_and_report(&self, result: &ResultId, mut removed: impl FnMut(Removed<'_>)) {
        let mut state = self.state.write();
        for key in state.results.remove(result).unwrap_or_default() {
            if let Some(entry) = state.keys.get_mut(&key) {
                entry.records.remove(result);
                removed(Removed::Record(&key, result));
            }
            state.prune(key, &mut removed);
        }
    }

    /// Removes keys that have neither a record nor a link to another key, and tells what went. A store
    /// that was read from a damaged copy may have them; whoever calls must not be saving a key.
    pub fn release_unused(&self, mut removed: impl FnMut(Removed<'_>)) {
        let mut state = self.state.write();
        let unused: Vec<KeyId> =
            state.keys.iter().filter(|(_, entry)| !entry.is_used()).map(|(key, _)| key.clone()).collect();
        for key in unused {
            state.prune(key, &mut removed);
        }
    }

    /// Up to `count` results, those first whose keys were not asked for longest.
    pub fn least_used(&self, count: usize) -> Vec<ResultId> {
        let state = self.state.read();
        let mut results: Vec<(u64, &ResultId)> = state
            .results
            .iter()
            .map(|(result, keys)| {
                let used = keys.iter().filter_map(|key| state.keys.get(key));
                (used.map(|entry| entry.used.load(Ordering::Relaxed)).max().unwrap_or(0), result)
            })
            .collect();
        results.sort();
        results.into_iter().take(count).map(|(_, result)| result.clone()).collect()
    }

    fn touch(&self, entry: &Entry) {
        entry.used.store(self.calls.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    /// Removes a key that has nothing any more, then its parents if it was all they led to.
    fn prune(&mut self, key: KeyId, removed: &mut dyn FnMut(Removed<'_>)) {
        let mut pending = vec![key];
        while let Some(key) = pending.pop() {
            if self.keys.get(&key).is_none_or(Entry::is_used) {
                continue;
            }
            let Some(entry) = self.keys.remove(&key) else { continue };
            removed(Removed::Key(&key));
            for (parent, link) in entry.parents {
                removed(Removed::Link(&parent, &link, &key));
                let Some(above) = self.keys.get_mut(&parent) else { continue };
                if let Some(children) = above.links.get_mut(&link) {
                    children.remove(&key);
                    if children.is_empty() {
                        above.links.remove(&link);
                    }
                }
                pending.push(parent);
            }
        }
    }
}

impl KeySource for MemoryKeyStore {
    fn query(&self, queries: &[LinkQuery]) -> Result<Vec<Vec<Vec<KeyId>>>, StoreError> {
        let state = self.state.read();
        Ok(queries
            .iter()
            .map(|query| {
                let mut link = Link {
                    input: query.input,
                    digest: query.digest.clone(),
                    output: query.output,
                    selector: None,
                };
                query
                    .parents
                    .iter()
                    .map(|parent| {
                        link.selector.clone_from(&parent.selector);
                        state
                            .keys
                            .get(&parent.key)
                            .and_then(|entry| entry.links.get(&link))
                            .map(|keys| keys.iter().cloned().collect())
                            .unwrap_or_default()
                    })
                    .collect()
            })
            .collect())
    }

    fn exists(&self, key: &KeyId) -> Result<bool, StoreError> {
        Ok(self.state.read().keys.get(key).is_some_and(Entry::is_used))
    }

    fn records(&self, key: &KeyId) -> Result<Vec<Record>, StoreError> {
        let state = self.state.read();
        let Some(entry) = state.keys.get(key) else { return Ok(Vec::new()) };
        self.touch(entry);
        Ok(entry.records.values().cloned().collect())
    }

    fn backlinks(&self, key: &KeyId) -> Result<Vec<(KeyId, Link)>, StoreError> {
        let state = self.state.read();
        Ok(state.keys.get(key).map(|entry| entry.parents.iter().cloned().collect()).unwrap_or_default())
    }
}

impl CacheKeyStore for MemoryKeyStore {
    fn add_link(&self, parent: &KeyId, link: &Link, key: &KeyId) -> Result<(), StoreError> {
        let mut state = self.state.write();
        let above = state.keys.entry(parent.clone()).or_default();
        above.links.entry(link.clone()).or_default().insert(key.clone());
        state.keys.entry(key.clone()).or_default().parents.insert((parent.clone(), link.clone()));
        Ok(())
    }

    fn add_record(&self, key: &KeyId, record: &Record) -> Result<(), StoreError> {
        let mut state = self.state.write();
        let entry = state.keys.entry(key.clone()).or_default();
        self.touch(entry);
        entry.records.insert(record.result.clone(), record.clone());
        state.results.entry(record.result.clone()).or_default().insert(key.clone());
        Ok(())
    }

    fn set_preimage(&self, key: &KeyId, preimage: &str) -> Result<(), StoreError> {
        // Of use with a record or link only, so it makes no key.
        if let Some(entry) = self.state.write().keys.get_mut(key)
            && entry.preimage.as_deref() != Some(preimage)
        {
            entry.preimage = Some(preimage.into());
        }
        Ok(())
    }

    fn preimage(&self, key: &KeyId) -> Result<Option<Arc<str>>, StoreError> {
        Ok(self.state.read().keys.get(key).and_then(|entry| entry.preimage.clone()))
    }

    fn release(&self, result: &ResultId) -> Result<(), StoreError> {
        self.release_and_report(result, |_| {});
        Ok(())
    }

    fn keys_of(&self, result: &ResultId) -> Result<Vec<KeyId>, StoreError> {
        let state = self.state.read();
        Ok(state.results.get(result).map(|keys| keys.iter().cloned().collect()).unwrap_or_default())
    }

    fn results(&self) -> Result<Vec<ResultId>, StoreError> {
        let mut results: Vec<ResultId> = self.state.read().results.keys().cloned().collect();
        results.sort();
        Ok(results)
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    #[test]
    fn conforms() {
        crate::testsuite::run(super::MemoryKeyStore::new);
    }
}
