use std::sync::Arc;

use buildkit_cache_metadata::{Batch, Bucket, Error, MetadataStore};
use buildkit_solver::{
    CacheKeyStore, KeyId, KeySource, Link, LinkQuery, MemoryKeyStore, Record, Removed, ResultId, StoreError,
};
use buildkit_util_cachedigest::Digest;

use crate::encoding::{link_key, parse_link, parse_record, record_key, record_value};

const LINKS: Bucket = Bucket::new("solver-links");
const RECORDS: Bucket = Bucket::new("solver-records");
const PREIMAGES: Bucket = Bucket::new("solver-preimages");

/// How a store behaves.
#[derive(Clone, Copy, Debug)]
pub struct PersistentKeyStoreOptions {
    /// Keys that are held at most. Beyond that, the results are forgotten whose keys were not asked
    /// for longest, with the chains that lead to them only.
    pub max_keys: usize,
}

impl Default for PersistentKeyStoreOptions {
    fn default() -> Self {
        Self { max_keys: 1_000_000 }
    }
}

/// Keys in memory with a copy in a database.
pub struct PersistentKeyStore {
    memory: MemoryKeyStore,
    database: Arc<dyn MetadataStore>,
    options: PersistentKeyStoreOptions,
}

/// Deletes the entry of something that memory no longer holds.
fn delete(batch: &mut Batch, removed: Removed<'_>) {
    match removed {
        Removed::Record(key, result) => batch.delete(RECORDS, record_key(key, result)),
        Removed::Link(parent, link, key) => batch.delete(LINKS, link_key(parent, link, key)),
        Removed::Key(key) => batch.delete(PREIMAGES, key.0.as_str().as_bytes().to_vec()),
    };
}

fn failed(action: &'static str) -> impl FnOnce(Error) -> StoreError {
    move |error| StoreError { action, source: Box::new(error) }
}

impl PersistentKeyStore {
    /// Reads all keys of a database. Entries that cannot be read are removed, and so are those that
    /// became useless when the end of a daemon or damage took the entries that they belong to.
    ///
    /// # Errors
    /// When the database cannot be read at all.
    pub fn open(
        database: Arc<dyn MetadataStore>,
        options: PersistentKeyStoreOptions,
    ) -> Result<Self, StoreError> {
        let memory = MemoryKeyStore::new();
        let mut damaged = Batch::new();
        for entry in database.range(LINKS, b"").map_err(failed("open"))? {
            match parse_link(&entry.key) {
                Some((parent, link, child)) => memory.add_link(&parent, &link, &child)?,
                None => {
                    damaged.delete(LINKS, entry.key);
                }
            }
        }
        for entry in database.range(RECORDS, b"").map_err(failed("open"))? {
            match parse_record(&entry.key, &entry.value) {
                Some((key, record)) => memory.add_record(&key, &record)?,
                None => {
                    damaged.delete(RECORDS, entry.key);
                }
            }
        }
        for entry in database.range(PREIMAGES, b"").map_err(failed("open"))? {
            let key = std::str::from_utf8(&entry.key).ok().and_then(|key| Digest::parse(key).ok());
            match (key, std::str::from_utf8(&entry.value)) {
                (Some(key), Ok(text)) if memory.exists(&KeyId(key.clone()))? => {
                    memory.set_preimage(&KeyId(key), text)?
                }
                _ => {
                    damaged.delete(PREIMAGES, entry.key);
                }
            }
        }
        memory.release_unused(|removed| delete(&mut damaged, removed));
        if !damaged.is_empty() {
            tracing::warn!(
                entries = damaged.len(),
                "entries of cache keys were damaged or of no use and were removed"
            );
            database.apply(damaged).map_err(failed("open"))?;
        }
        Ok(Self { memory, database, options })
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// Makes room when there are too many keys, an eighth at a time.
    fn shrink(&self) -> Result<(), StoreError> {
        if self.memory.len() > self.options.max_keys {
            for result in self.memory.least_used(self.options.max_keys / 8 + 1) {
                self.release(&result)?;
            }
        }
        Ok(())
    }
}

impl KeySource for PersistentKeyStore {
    fn query(&self, queries: &[LinkQuery]) -> Result<Vec<Vec<Vec<KeyId>>>, StoreError> {
        self.memory.query(queries)
    }

    fn exists(&self, key: &KeyId) -> Result<bool, StoreError> {
        self.memory.exists(key)
    }

    fn records(&self, key: &KeyId) -> Result<Vec<Record>, StoreError> {
        self.memory.records(key)
    }

    fn backlinks(&self, key: &KeyId) -> Result<Vec<(KeyId, Link)>, StoreError> {
        self.memory.backlinks(key)
    }
}

impl CacheKeyStore for PersistentKeyStore {
    fn add_link(&self, parent: &KeyId, link: &Link, key: &KeyId) -> Result<(), StoreError> {
        self.memory.add_link(parent, link, key)?;
        let mut batch = Batch::new();
        batch.put(LINKS, link_key(parent, link, key), Vec::new());
        self.database.apply(batch).map_err(failed("write to"))
    }

    fn add_record(&self, key: &KeyId, record: &Record) -> Result<(), StoreError> {
        self.memory.add_record(key, record)?;
        let mut batch = Batch::new();
        batch.put(RECORDS, record_key(key, &record.result), record_value(record));
        self.database.apply(batch).map_err(failed("write to"))?;
        self.shrink()
    }

    fn set_preimage(&self, key: &KeyId, preimage: &str) -> Result<(), StoreError> {
        if self.memory.preimage(key)?.as_deref() == Some(preimage) {
            return Ok(());
        }
        self.memory.set_preimage(key, preimage)?;
        let mut batch = Batch::new();
        batch.put(PREIMAGES, key.0.as_str().as_bytes().to_vec(), preimage.as_bytes().to_vec());
        self.database.apply(batch).map_err(failed("write to"))
    }

    fn preimage(&self, key: &KeyId) -> Result<Option<Arc<str>>, StoreError> {
        self.memory.preimage(key)
    }

    fn release(&self, result: &ResultId) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        self.memory.release_and_report(result, |removed| delete(&mut batch, removed));
        if batch.is_empty() { Ok(()) } else { self.database.apply(batch).map_err(failed("write to")) }
    }

    fn keys_of(&self, result: &ResultId) -> Result<Vec<KeyId>, StoreError> {
        self.memory.keys_of(result)
    }

    fn results(&self) -> Result<Vec<ResultId>, StoreError> {
        self.memory.results()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use buildkit_cache_metadata::{MemoryStore, SledOptions, SledStore};
    use buildkit_solver::{NewKey, Parent, save_record};

    use super::*;

    fn open(database: &Arc<MemoryStore>, max_keys: usize) -> PersistentKeyStore {
        PersistentKeyStore::open(database.clone(), PersistentKeyStoreOptions { max_keys }).expect("opens")
    }

    fn save(store: &PersistentKeyStore, name: &str, parent: Option<&KeyId>) -> KeyId {
        let parents =
            parent.map(|key| vec![Parent { key: key.clone(), selector: None }]).into_iter().collect();
        let new = NewKey { digest: Digest::sha256(name), output: 0, parents, preimage: Some(name.into()) };
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let record = Record { result: ResultId(name.to_owned()), created_at, priority: 0 };
        save_record(store, &new, &record).expect("saves")
    }

    #[test]
    fn conforms() {
        buildkit_solver::testsuite::run(|| open(&Arc::default(), 1000));
    }

    #[test]
    fn conforms_on_sled() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut number = 0;
        buildkit_solver::testsuite::run(|| {
            number += 1;
            let database = SledStore::open(dir.path().join(number.to_string()), SledOptions::default());
            PersistentKeyStore::open(
                Arc::new(database.expect("opens")),
                PersistentKeyStoreOptions { max_keys: 1000 },
            )
            .expect("reads")
        });
    }

    #[test]
    fn keys_survive_on_sled() {
        let dir = tempfile::tempdir().expect("temp dir");
        let open = || {
            let database = Arc::new(SledStore::open(dir.path(), SledOptions::default()).expect("opens"));
            PersistentKeyStore::open(database, PersistentKeyStoreOptions::default()).expect("reads")
        };
        let store = open();
        let root = save(&store, "root", None);
        let kept = save(&store, "kept", Some(&root));
        let gone = save(&store, "gone", Some(&kept));
        store.release(&ResultId("gone".to_owned())).expect("takes");
        drop(store);
        let store = open();
        assert_eq!(store.records(&kept).expect("answers").len(), 1);
        assert_eq!(store.backlinks(&kept).expect("answers").len(), 1);
        assert_eq!(store.preimage(&root).expect("answers").as_deref(), Some("root"));
        assert!(!store.exists(&gone).expect("answers"));
        assert_eq!(store.len(), 2);
    }

    #[test]
    fn entries_that_lost_what_they_belong_to_are_removed() {
        let database = Arc::new(MemoryStore::new());
        let store = open(&database, 1000);
        let root = save(&store, "root", None);
        let child = save(&store, "child", Some(&root));
        drop(store);
        let mut batch = Batch::new();
        batch.delete(RECORDS, record_key(&child, &ResultId("child".to_owned())));
        database.apply(batch).expect("takes");
        let store = open(&database, 1000);
        assert_eq!((store.len(), store.exists(&root).expect("answers")), (1, true));
        for (bucket, entries) in [(LINKS, 0), (RECORDS, 1), (PREIMAGES, 1)] {
            assert_eq!(database.range(bucket, b"").expect("reads").len(), entries, "{bucket:?}");
        }
    }

    #[test]
    fn keys_survive_a_restart_and_released_ones_do_not() {
        let database = Arc::new(MemoryStore::new());
        let store = open(&database, 1000);
        let a = save(&store, "a", None);
        let b = save(&store, "b", Some(&a));
        let c = save(&store, "c", Some(&a));
        store.release(&ResultId("c".to_owned())).expect("takes");
        drop(store);
        let store = open(&database, 1000);
        assert_eq!(store.backlinks(&b).expect("answers").len(), 1);
        assert_eq!(store.records(&a).expect("answers").len(), 1);
        assert_eq!(store.preimage(&b).expect("answers").as_deref(), Some("b"));
        assert!(!store.exists(&c).expect("answers"));
        for result in store.results().expect("answers") {
            store.release(&result).expect("takes");
        }
        for bucket in [LINKS, RECORDS, PREIMAGES] {
            assert!(database.range(bucket, b"").expect("reads").is_empty(), "{bucket:?}");
        }
    }

    #[test]
    fn damaged_entries_are_removed() {
        let database = Arc::new(MemoryStore::new());
        let mut batch = Batch::new();
        for bucket in [LINKS, RECORDS, PREIMAGES] {
            batch.put(bucket, &b"\xff damaged"[..], &b"\xff"[..]);
        }
        database.apply(batch).expect("takes");
        assert!(open(&database, 10).is_empty());
        for bucket in [LINKS, RECORDS, PREIMAGES] {
            assert!(database.range(bucket, b"").expect("reads").is_empty(), "{bucket:?}");
        }
    }

    #[test]
    fn old_chains_go_when_there_are_too_many() {
        let store = open(&Arc::default(), 100);
        let first = save(&store, "first", None);
        for number in 0..500 {
            save(&store, &number.to_string(), None);
            store.records(&first).expect("answers");
            assert!(store.len() <= 101);
        }
        assert!(store.exists(&first).expect("answers"), "it was in use all the time");
    }
}
