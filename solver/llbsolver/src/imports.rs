//! Caches of elsewhere that builds look into while they run.
//!
//! What they have is asked after what is known here. A record that is loaded becomes known here, with those
//! that its layers hold as well, so that the next build needs no import. Records of others name keys by their
//! digests only: what a key is made of is learned from the question that finds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache::{BlobSource, CacheManager, CreateOptions, Error, ImmutableRef, LayerBlob, Offer};
use buildkit_cache_remotecache::{DESCRIPTION, RemoteCache};
use buildkit_cache_remotecache_v1::Records;
use buildkit_solver::{
    CacheKeyStore, KeyId, Link, LinkQuery, MemoryKeyStore, NewKey, OutputIndex, Parent, Record, ResultId,
    StoreError, derived_key, root_key,
};
use buildkit_util_cachedigest::{Digest, Digester};
use buildkit_util_ocispec::{Descriptor, annotation};
use buildkit_util_progress::Writer;
use parking_lot::{Mutex, RwLock};

/// What ids of results begin with that are elsewhere.
const PREFIX: &str = "import:";

/// Below that of results that are here.
const PRIORITY: i32 = -1;

/// Keys that are known here, and those of caches that running builds import. Clones are the same.
#[derive(Clone)]
pub struct ImportedKeys {
    inner: Arc<Inner>,
}

struct Inner {
    local: Arc<dyn CacheKeyStore>,
    imports: RwLock<BTreeMap<u64, Arc<Import>>>,
}

/// A cache is looked into for as long as this lives.
pub(crate) struct Registration {
    inner: Arc<Inner>,
    number: u64,
    _offer: Option<Offer>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.inner.imports.write().remove(&self.number);
    }
}

/// One cache.
struct Import {
    /// Keys with links whose digests have the output folded in already; their outputs say nothing.
    keys: MemoryKeyStore,
    results: HashMap<ResultId, Layers>,
    /// What keys were found by: the digest and output behind the one that is folded.
    found: Mutex<HashMap<KeyId, (Digest, OutputIndex)>>,
}

/// A result.
struct Layers {
    layers: Arc<[Descriptor]>,
    created_at: SystemTime,
}

impl Import {
    fn new(records: &Records) -> Result<Self, StoreError> {
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
                let layers: Vec<Descriptor> =
                    result.layers.iter().filter_map(|layer| records.layers.get(*layer)).cloned().collect();
                // Without what it was before it was compressed, a layer cannot be unpacked.
                if layers.is_empty() || layers.iter().any(|layer| layer.diff_id().is_none()) {
                    continue;
                }
                let mut name = Digester::new();
                layers.iter().for_each(|layer| name.update(layer.digest.as_str()));
                let result_id = ResultId(format!("{PREFIX}{}", name.finish()));
                let created_at = result.created_at.into();
                keys.add_record(&id, &Record { result: result_id.clone(), created_at, priority: PRIORITY })?;
                results.insert(result_id, Layers { layers: layers.into(), created_at });
            }
            ids.push(id);
        }
        Ok(Self { keys, results, found: Mutex::default() })
    }

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

    /// The links to a key that was found, as they are here.
    fn backlinks(&self, key: &KeyId) -> Result<Vec<(KeyId, Link)>, StoreError> {
        let Some((digest, output)) = self.found.lock().get(key).cloned() else { return Ok(Vec::new()) };
        let links = self.keys.backlinks(key)?.into_iter();
        Ok(links.map(|(parent, link)| (parent, Link { digest: digest.clone(), output, ..link })).collect())
    }
}

impl ImportedKeys {
    /// No caches, besides what is known here.
    pub fn new(local: Arc<dyn CacheKeyStore>) -> Self {
        Self { inner: Arc::new(Inner { local, imports: RwLock::default() }) }
    }

    /// Looks into a cache from now on.
    pub(crate) fn register(
        &self,
        cache: &CacheManager,
        remote: &RemoteCache,
        progress: &Writer,
    ) -> Result<Vec<Registration>, StoreError> {
        let mut registrations = Vec::with_capacity(remote.caches.len());
        for records in &remote.caches {
            let import = Arc::new(Import::new(records)?);
            let source = BlobSource { provider: remote.provider.clone(), progress: progress.clone() };
            let digests = records.layers.iter().map(|layer| layer.digest.clone());
            let offer = Some(cache.offer(digests, source));
            let mut imports = self.inner.imports.write();
            let number = imports.last_key_value().map_or(0, |(last, _)| last + 1);
            imports.insert(number, import);
            registrations.push(Registration { inner: self.inner.clone(), number, _offer: offer });
        }
        Ok(registrations)
    }

    fn imports(&self) -> Vec<Arc<Import>> {
        self.inner.imports.read().values().cloned().collect()
    }

    /// Whether a result is elsewhere.
    pub(crate) fn is_imported(result: &ResultId) -> bool {
        result.0.starts_with(PREFIX)
    }

    /// The layers of a result that is elsewhere.
    pub(crate) fn layers(&self, result: &ResultId) -> Option<Arc<[Descriptor]>> {
        self.imports().iter().find_map(|import| Some(import.results.get(result)?.layers.clone()))
    }

    /// Makes a result that is elsewhere one that is here; its layers are fetched when they are needed.
    pub(crate) fn load(
        &self,
        cache: &CacheManager,
        result: &ResultId,
    ) -> Result<Option<ImmutableRef>, Error> {
        let Some(layers) = self.layers(result) else { return Ok(None) };
        let mut trees: Vec<ImmutableRef> = Vec::with_capacity(layers.len());
        for layer in &*layers {
            let Some(diff_id) = layer.diff_id() else { return Ok(None) };
            let note = |key: &str| layer.annotations.get(key);
            let created = note(annotation::CREATED_AT).and_then(|text| text.parse().ok());
            let options = CreateOptions {
                description: note(DESCRIPTION).cloned().unwrap_or_default(),
                created_at: created.map(|time: buildkit_exporter_util_epoch::Timestamp| time.into()),
                ..CreateOptions::default()
            };
            // What goes into the record is not part of the blob.
            let mut descriptor = layer.clone();
            for key in [annotation::CREATED_AT, DESCRIPTION] {
                descriptor.annotations.remove(key);
            }
            let blob = LayerBlob { descriptor, diff_id };
            trees.push(cache.layer(trees.last(), &blob, options)?);
        }
        if let Err(error) = self.keep(&layers, &trees) {
            tracing::warn!(%error, "keys of an imported result are not kept");
        }
        Ok(trees.pop())
    }

    /// Keeps the keys of some layers, and of those below them.
    fn keep(&self, layers: &[Descriptor], trees: &[ImmutableRef]) -> Result<(), StoreError> {
        let is_below = |other: &[Descriptor]| {
            other.len() <= layers.len() && other.iter().zip(layers).all(|(a, b)| a.digest == b.digest)
        };
        for import in self.imports() {
            for (result, other) in import.results.iter().filter(|(_, other)| is_below(&other.layers)) {
                let Some(tree) = other.layers.len().checked_sub(1).and_then(|top| trees.get(top)) else {
                    continue;
                };
                let record = Record {
                    result: ResultId(tree.id().as_str().to_owned()),
                    created_at: other.created_at,
                    priority: 0,
                };
                for key in import.keys.keys_of(result)? {
                    let links = import.backlinks(&key)?;
                    if links.is_empty() && !import.keys.backlinks(&key)?.is_empty() {
                        // Nobody asked for it.
                        continue;
                    }
                    for (parent, link) in links {
                        self.inner.local.add_link(&parent, &link, &key)?;
                    }
                    self.inner.local.add_record(&key, &record)?;
                }
            }
        }
        Ok(())
    }
}

impl CacheKeyStore for ImportedKeys {
    fn query(&self, queries: &[LinkQuery]) -> Result<Vec<Vec<Vec<KeyId>>>, StoreError> {
        let mut answers = self.inner.local.query(queries)?;
        for import in self.imports() {
            for (answer, more) in answers.iter_mut().zip(import.query(queries)?) {
                for (keys, more) in answer.iter_mut().zip(more) {
                    for key in more {
                        if !keys.contains(&key) {
                            keys.push(key);
                        }
                    }
                }
            }
        }
        Ok(answers)
    }

    fn exists(&self, key: &KeyId) -> Result<bool, StoreError> {
        if self.inner.local.exists(key)? {
            return Ok(true);
        }
        for import in self.imports() {
            if import.keys.exists(key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn records(&self, key: &KeyId) -> Result<Vec<Record>, StoreError> {
        let mut records = self.inner.local.records(key)?;
        for import in self.imports() {
            records.extend(import.keys.records(key)?);
        }
        Ok(records)
    }

    fn add_link(&self, parent: &KeyId, link: &Link, key: &KeyId) -> Result<(), StoreError> {
        self.inner.local.add_link(parent, link, key)
    }

    fn add_record(&self, key: &KeyId, record: &Record) -> Result<(), StoreError> {
        self.inner.local.add_record(key, record)
    }

    fn set_preimage(&self, key: &KeyId, preimage: &str) -> Result<(), StoreError> {
        self.inner.local.set_preimage(key, preimage)
    }

    fn preimage(&self, key: &KeyId) -> Result<Option<Arc<str>>, StoreError> {
        self.inner.local.preimage(key)
    }

    fn release(&self, result: &ResultId) -> Result<(), StoreError> {
        self.inner.local.release(result)
    }

    fn backlinks(&self, key: &KeyId) -> Result<Vec<(KeyId, Link)>, StoreError> {
        let mut links: BTreeSet<(KeyId, Link)> = self.inner.local.backlinks(key)?.into_iter().collect();
        for import in self.imports() {
            links.extend(import.backlinks(key)?);
        }
        Ok(links.into_iter().collect())
    }

    fn keys_of(&self, result: &ResultId) -> Result<Vec<KeyId>, StoreError> {
        let mut keys = self.inner.local.keys_of(result)?;
        for import in self.imports() {
            keys.extend(import.keys.keys_of(result)?);
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Those that are here: the others are not lost.
    fn results(&self) -> Result<Vec<ResultId>, StoreError> {
        self.inner.local.results()
    }
}

#[cfg(test)]
mod tests {
    use buildkit_cache_remotecache_v1::{Link as RecordLink, Record as RemoteRecord, RecordResult};
    use buildkit_solver::{ensure_key, save_record, testsuite};
    use buildkit_util_ocispec::media_type;

    use super::*;

    fn local() -> ImportedKeys {
        ImportedKeys::new(Arc::new(MemoryKeyStore::new()))
    }

    fn new_key(name: &str, output: OutputIndex, parents: &[(&KeyId, Option<&Digest>)]) -> NewKey {
        let parents = parents
            .iter()
            .map(|(key, selector)| vec![Parent { key: (*key).clone(), selector: selector.cloned() }]);
        NewKey { digest: Digest::sha256(name), output, parents: parents.collect(), preimage: None }
    }

    /// What another builder says of a source, a step with it and a second output of a step with that.
    fn records(selector: &Digest) -> Records {
        let layer = |name: &str| {
            Descriptor::of(media_type::OCI_LAYER, name.as_bytes())
                .with_annotation(annotation::UNCOMPRESSED, Digest::sha256(name).as_str())
        };
        let record = |name: &str, output, inputs, layers: &[usize]| RemoteRecord {
            digest: root_key(&Digest::sha256(name), Some(output)).0,
            inputs,
            results: match layers {
                [] => Vec::new(),
                _ => vec![RecordResult {
                    layers: layers.to_vec(),
                    created_at: "2000-01-01T00:00:00Z".parse().expect("a time"),
                }],
            },
        };
        let link = |record, selector: Option<&Digest>| {
            vec![vec![RecordLink { record, selector: selector.cloned() }]]
        };
        let records = vec![
            record("source", 0, Vec::new(), &[]),
            record("step", 0, link(0, Some(selector)), &[0]),
            record("last", 1, link(1, None), &[0, 1]),
        ];
        Records { layers: vec![layer("a"), layer("b")], records }
    }

    fn register(keys: &ImportedKeys, records: &Records) -> Registration {
        let mut imports = keys.inner.imports.write();
        imports.insert(7, Arc::new(Import::new(records).expect("an import")));
        Registration { inner: keys.inner.clone(), number: 7, _offer: None }
    }

    #[test]
    fn conforms() {
        testsuite::run(local);
    }

    #[test]
    fn keys_of_others_are_found_by_what_they_are_made_of() {
        let (keys, selector) = (local(), Digest::sha256("selector"));
        let registration = register(&keys, &records(&selector));
        let source = ensure_key(&keys, &new_key("source", 0, &[])).expect("a key");
        let step = ensure_key(&keys, &new_key("step", 0, &[(&source, Some(&selector))])).expect("a key");
        let last = ensure_key(&keys, &new_key("last", 1, &[(&step, None)])).expect("a key");
        assert!(keys.records(&source).expect("an answer").is_empty());
        let found = keys.records(&last).expect("an answer");
        assert_eq!((found.len(), found[0].priority), (1, PRIORITY));
        assert_eq!(keys.layers(&found[0].result).expect("layers").len(), 2);
        assert!(ImportedKeys::is_imported(&found[0].result));
        assert_eq!(keys.keys_of(&found[0].result).expect("an answer"), std::slice::from_ref(&last));
        // Another selector, output or digest is another key.
        for other in [
            new_key("step", 0, &[(&source, None)]),
            new_key("step", 1, &[(&source, Some(&selector))]),
            new_key("other", 0, &[(&source, Some(&selector))]),
        ] {
            let other = ensure_key(&keys, &other).expect("a key");
            assert!(keys.records(&other).expect("an answer").is_empty());
        }
        let links = keys.backlinks(&last).expect("an answer");
        let link = Link { input: 0, digest: Digest::sha256("last"), output: 1, selector: None };
        assert_eq!(links, [(step.clone(), link)]);
        // It is kept out of what is known here, and gone with the build.
        assert!(keys.results().expect("an answer").is_empty());
        drop(registration);
        assert!(keys.records(&last).expect("an answer").is_empty());
        assert_eq!(keys.layers(&found[0].result), None);
    }

    #[test]
    fn what_is_here_comes_first() {
        let (keys, selector) = (local(), Digest::sha256("selector"));
        let source = root_key(&Digest::sha256("source"), Some(0));
        let new = new_key("step", 0, &[(&source, Some(&selector))]);
        let record =
            Record { result: ResultId("here".to_owned()), created_at: SystemTime::UNIX_EPOCH, priority: 0 };
        let here = save_record(&keys, &new, &record).expect("a key");
        let _registration = register(&keys, &records(&selector));
        let query =
            LinkQuery { input: 0, digest: new.digest.clone(), output: 0, parents: new.parents[0].clone() };
        let found = keys.query(&[query]).expect("an answer").remove(0).remove(0);
        assert_eq!(found.first(), Some(&here));
    }
}
