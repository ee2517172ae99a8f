//! Caches of elsewhere that builds look into while they run, each for itself.
//!
//! What they have is asked after what is known here. A record that is loaded becomes known here, with those
//! that its layers hold as well, so that the next build needs no import.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buildkit_cache::{BlobSource, CacheManager, CreateOptions, Error, ImmutableRef, LayerBlob, Offer};
use buildkit_cache_remotecache::{DESCRIPTION, RemoteCache};
use buildkit_cache_remotecache_v1::Records;
use buildkit_solver::{CacheKeyStore, KeySource, Record, ResultId, StoreError};
use buildkit_util_ocispec::{Descriptor, annotation};
use buildkit_util_progress::Writer;
use parking_lot::RwLock;

use crate::import::{Import, import_of};

/// The caches that running builds have opened. It finds their results, for whoever has been told of one; their
/// keys are told by `Registration::keys`, for the build that opened them. Clones are the same.
#[derive(Clone)]
pub struct Imports {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where keys of results are kept that were loaded.
    local: Arc<dyn CacheKeyStore>,
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<Import>>>,
}

/// A cache that is open for as long as this lives.
pub(crate) struct Registration {
    inner: Arc<Inner>,
    number: u64,
    import: Arc<Import>,
    _offer: Option<Offer>,
}

impl Registration {
    /// What the cache has.
    pub(crate) fn keys(&self) -> Arc<dyn KeySource> {
        self.import.clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.inner.open.write().remove(&self.number);
    }
}

impl Imports {
    /// No caches yet. Keys of what is loaded from one are kept in `local`.
    pub fn new(local: Arc<dyn CacheKeyStore>) -> Self {
        Self { inner: Arc::new(Inner { local, next: AtomicU64::new(0), open: RwLock::default() }) }
    }

    /// Opens a cache: for an image, one for each of its platforms.
    pub(crate) fn register(
        &self,
        cache: &CacheManager,
        remote: &RemoteCache,
        progress: &Writer,
    ) -> Result<Vec<Registration>, StoreError> {
        let open = |records: &Records| {
            let source = BlobSource { provider: remote.provider.clone(), progress: progress.clone() };
            let digests = records.layers.iter().map(|layer| layer.digest.clone());
            self.open(records, Some(cache.offer(digests, source)))
        };
        remote.caches.iter().map(open).collect()
    }

    fn open(&self, records: &Records, offer: Option<Offer>) -> Result<Registration, StoreError> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let import = Arc::new(Import::new(number, records)?);
        self.inner.open.write().insert(number, import.clone());
        Ok(Registration { inner: self.inner.clone(), number, import, _offer: offer })
    }

    /// The cache that has a result; `None` if it is not open any more.
    fn owner(&self, result: &ResultId) -> Option<Arc<Import>> {
        let import = self.inner.open.read().get(&import_of(result)?).cloned()?;
        import.has(result).then_some(import)
    }

    /// Whether a result is elsewhere.
    pub(crate) fn is_imported(result: &ResultId) -> bool {
        import_of(result).is_some()
    }

    /// Whether a result that is elsewhere can be had.
    pub(crate) fn has(&self, result: &ResultId) -> bool {
        self.owner(result).is_some()
    }

    /// The layers of a result that is elsewhere.
    pub(crate) fn layers(&self, result: &ResultId) -> Option<Vec<Descriptor>> {
        self.owner(result)?.layers(result)
    }

    /// Makes a result that is elsewhere one that is here; its layers are fetched when they are needed.
    pub(crate) fn load(
        &self,
        cache: &CacheManager,
        result: &ResultId,
    ) -> Result<Option<ImmutableRef>, Error> {
        let Some(import) = self.owner(result) else { return Ok(None) };
        let layers = import.layers(result).unwrap_or_default();
        let mut trees: Vec<ImmutableRef> = Vec::with_capacity(layers.len());
        for layer in &layers {
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
        if let Err(error) = self.keep(&import, result, &trees) {
            tracing::warn!(%error, "keys of an imported result are not kept");
        }
        Ok(trees.pop())
    }

    /// Keeps the keys of a result, and of those below it, with the trees of its layers.
    fn keep(&self, import: &Import, result: &ResultId, trees: &[ImmutableRef]) -> Result<(), StoreError> {
        for found in import.found_below(result)? {
            let Some(tree) = found.layers.checked_sub(1).and_then(|top| trees.get(top)) else { continue };
            for (parent, link, key) in import.ways_to(&found.key)? {
                self.inner.local.add_link(&parent, &link, &key)?;
            }
            let result = ResultId(tree.id().as_str().to_owned());
            self.inner
                .local
                .add_record(&found.key, &Record { result, created_at: found.created_at, priority: 0 })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use buildkit_cache_remotecache_v1::{Link as RecordLink, Record as RemoteRecord, RecordResult};
    use buildkit_solver::{
        KeyId, Link, LinkQuery, MemoryKeyStore, NewKey, OutputIndex, Parent, ensure_key, root_key,
    };
    use buildkit_util_cachedigest::Digest;
    use buildkit_util_ocispec::media_type;

    use super::*;
    use crate::import::PRIORITY;

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

    fn question(name: &str, output: OutputIndex, parent: &KeyId, selector: Option<&Digest>) -> LinkQuery {
        let parents = vec![Parent { key: parent.clone(), selector: selector.cloned() }];
        LinkQuery { input: 0, digest: Digest::sha256(name), output, parents }
    }

    fn ask(keys: &dyn KeySource, question: LinkQuery) -> Vec<KeyId> {
        keys.query(&[question]).expect("an answer").remove(0).remove(0)
    }

    #[test]
    fn keys_of_others_are_found_by_what_they_are_made_of() {
        let (local, selector) = (Arc::new(MemoryKeyStore::new()), Digest::sha256("selector"));
        let imports = Imports::new(local.clone());
        let registration = imports.open(&records(&selector), None).expect("an import");
        let keys = registration.keys();
        // The key of a source is the same everywhere.
        let new = NewKey { digest: Digest::sha256("source"), output: 0, parents: Vec::new(), preimage: None };
        let source = ensure_key(&*local, &new).expect("a key");
        assert!(keys.exists(&source).expect("an answer"));
        let step = ask(&*keys, question("step", 0, &source, Some(&selector))).remove(0);
        let last = ask(&*keys, question("last", 1, &step, None)).remove(0);
        assert!(keys.records(&source).expect("an answer").is_empty());
        let found = keys.records(&last).expect("an answer").remove(0);
        assert_eq!(found.priority, PRIORITY);
        assert!(Imports::is_imported(&found.result) && imports.has(&found.result));
        assert_eq!(imports.layers(&found.result).expect("layers").len(), 2);
        // Another selector, output or digest is another key.
        for other in [
            question("step", 0, &source, None),
            question("step", 1, &source, Some(&selector)),
            question("other", 0, &source, Some(&selector)),
        ] {
            assert_eq!(ask(&*keys, other), []);
        }
        let links = keys.backlinks(&last).expect("an answer");
        let link = Link { input: 0, digest: Digest::sha256("last"), output: 1, selector: None };
        assert_eq!(links, [(step.clone(), link)]);
        // It is kept out of what is known here, and gone with the build.
        assert!(!local.exists(&last).expect("an answer"));
        drop(registration);
        assert!(!imports.has(&found.result));
        assert_eq!(imports.layers(&found.result), None);
    }

    #[test]
    fn results_are_those_of_one_import() {
        let imports = Imports::new(Arc::new(MemoryKeyStore::new()));
        let selector = Digest::sha256("selector");
        let result = |registration: &Registration| {
            let keys = registration.keys();
            let source = root_key(&Digest::sha256("source"), Some(0));
            let step = ask(&*keys, question("step", 0, &source, Some(&selector))).remove(0);
            keys.records(&step).expect("an answer").remove(0).result
        };
        let one = imports.open(&records(&selector), None).expect("an import");
        let other = imports.open(&records(&selector), None).expect("an import");
        let (of_one, of_other) = (result(&one), result(&other));
        assert_ne!(of_one, of_other);
        drop(one);
        assert!(!imports.has(&of_one) && imports.has(&of_other));
    }

    #[test]
    fn keys_are_kept_that_were_asked_for() {
        let selector = Digest::sha256("selector");
        let mut records = records(&selector);
        // A source whose result is said to be the lowest layer.
        let made_up = RemoteRecord {
            digest: root_key(&Digest::sha256("another source"), Some(0)).0,
            inputs: Vec::new(),
            results: records.records[1].results.clone(),
        };
        records.records.push(made_up);
        let import = Import::new(7, &records).expect("an import");
        let source = root_key(&Digest::sha256("source"), Some(0));
        let step = ask(&import, question("step", 0, &source, Some(&selector))).remove(0);
        let result = import.records(&step).expect("an answer").remove(0).result;
        let kept = |result: &ResultId| {
            let mut kept: Vec<usize> =
                import.found_below(result).expect("an answer").iter().map(|found| found.layers).collect();
            kept.sort_unstable();
            kept
        };
        assert_eq!(kept(&result), [1]);
        let last = ask(&import, question("last", 1, &step, None)).remove(0);
        let result = import.records(&last).expect("an answer").remove(0).result;
        assert_eq!(kept(&result), [1, 2]);
        // The whole way, so that it is found again without the cache.
        let ways = import.ways_to(&last).expect("an answer");
        let ends: Vec<_> = ways.iter().map(|(parent, _, key)| (parent, key)).collect();
        assert_eq!(ends, [(&step, &last), (&source, &step)]);
        assert_eq!(import.ways_to(&step).expect("an answer"), []);
    }
}
