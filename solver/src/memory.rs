use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::{CacheKeyStore, KeyId, Link, LinkQuery, Record, ResultId, StoreError};

/// A store of keys that forgets everything when it is dropped.
#[derive(Default)]
pub struct MemoryKeyStore {
    state: RwLock<State>,
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

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    /// Removes a key that has nothing any more, then its parents if it was all they led to.
    fn prune(&mut self, key: KeyId) {
        let mut pending = vec![key];
        while let Some(key) = pending.pop() {
            if self.keys.get(&key).is_none_or(Entry::is_used) {
                continue;
            }
            let Some(entry) = self.keys.remove(&key) else { continue };
            for (parent, link) in entry.parents {
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

impl CacheKeyStore for MemoryKeyStore {
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
        Ok(state.keys.get(key).map(|entry| entry.records.values().cloned().collect()).unwrap_or_default())
    }

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
        entry.records.insert(record.result.clone(), record.clone());
        state.results.entry(record.result.clone()).or_default().insert(key.clone());
        Ok(())
    }

    fn set_preimage(&self, key: &KeyId, preimage: &str) -> Result<(), StoreError> {
        self.state.write().keys.entry(key.clone()).or_default().preimage = Some(preimage.into());
        Ok(())
    }

    fn preimage(&self, key: &KeyId) -> Result<Option<Arc<str>>, StoreError> {
        Ok(self.state.read().keys.get(key).and_then(|entry| entry.preimage.clone()))
    }

    fn release(&self, result: &ResultId) -> Result<(), StoreError> {
        let mut state = self.state.write();
        for key in state.results.remove(result).unwrap_or_default() {
            if let Some(entry) = state.keys.get_mut(&key) {
                entry.records.remove(result);
            }
            state.prune(key);
        }
        Ok(())
    }

    fn backlinks(&self, key: &KeyId) -> Result<Vec<(KeyId, Link)>, StoreError> {
        let state = self.state.read();
        Ok(state.keys.get(key).map(|entry| entry.parents.iter().cloned().collect()).unwrap_or_default())
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
