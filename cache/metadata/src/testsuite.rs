//! The conformance suite of [`MetadataStore`], for its implementations.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, Bucket, MetadataStore};

const ONE: Bucket = Bucket::new("suite.one");
const TWO: Bucket = Bucket::new("suite.two");

/// Runs all cases, each on a new store from `make`.
///
/// # Panics
/// When the store breaks the contract.
pub fn run<S: MetadataStore>(mut make: impl FnMut() -> S) {
    values(&make());
    ranges(&make());
    batches(&make());
    odd_keys(&make());
    concurrent(make());
}

fn keys(store: &dyn MetadataStore, bucket: Bucket, prefix: &[u8]) -> Vec<Vec<u8>> {
    let entries = store.range(bucket, prefix).expect("range");
    for entry in &entries {
        let value = store.get(bucket, &entry.key).expect("get");
        assert_eq!(value.as_ref(), Some(&entry.value), "range and get agree");
    }
    entries.into_iter().map(|entry| entry.key.to_vec()).collect()
}

fn put(store: &dyn MetadataStore, bucket: Bucket, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(bucket, key.to_vec(), value.to_vec());
    store.apply(batch).expect("apply");
}

fn values(store: &dyn MetadataStore) {
    assert_eq!(store.get(ONE, b"k").expect("get"), None);
    put(store, ONE, b"k", b"v1");
    assert_eq!(store.get(ONE, b"k").expect("get"), Some(Bytes::from_static(b"v1")));
    assert_eq!(store.get(TWO, b"k").expect("get"), None, "buckets are apart");
    put(store, ONE, b"k", b"v2");
    assert_eq!(store.get(ONE, b"k").expect("get"), Some(Bytes::from_static(b"v2")));
    let mut batch = Batch::new();
    batch.delete(ONE, b"k".to_vec()).delete(ONE, b"never there".to_vec());
    store.apply(batch).expect("apply");
    assert_eq!(store.get(ONE, b"k").expect("get"), None);
    let large = vec![7u8; 3 << 20];
    put(store, ONE, b"large", &large);
    assert_eq!(store.get(ONE, b"large").expect("get").as_deref(), Some(large.as_slice()));
    store.flush().expect("flush");
    store.size_on_disk().expect("size");
}

fn ranges(store: &dyn MetadataStore) {
    for key in [&b"b/2"[..], b"a", b"b/10", b"b", b"b/", b"c", b"b/\xff\xff", b"b0"] {
        put(store, ONE, key, key);
    }
    put(store, TWO, b"b/other", b"");
    assert_eq!(keys(store, ONE, b"b/"), [&b"b/"[..], b"b/10", b"b/2", b"b/\xff\xff"]);
    assert_eq!(keys(store, ONE, b"").len(), 8);
    assert_eq!(keys(store, ONE, b"b/\xff"), [b"b/\xff\xff"]);
    assert!(keys(store, ONE, b"d").is_empty());
    assert!(keys(store, Bucket::new("suite.none"), b"").is_empty());
    let all = keys(store, ONE, b"");
    assert!(all.is_sorted(), "keys are in order");
}

fn batches(store: &dyn MetadataStore) {
    store.apply(Batch::new()).expect("an empty batch is nothing");
    let mut batch = Batch::new();
    batch.put(ONE, &b"k"[..], &b"1"[..]).put(TWO, &b"k"[..], &b"2"[..]);
    batch.put(ONE, &b"k"[..], &b"3"[..]).put(TWO, &b"gone"[..], &b""[..]).delete(TWO, &b"gone"[..]);
    assert_eq!(batch.len(), 5);
    store.apply(batch).expect("apply");
    assert_eq!(store.get(ONE, b"k").expect("get").as_deref(), Some(&b"3"[..]), "later ones win");
    assert_eq!(store.get(TWO, b"k").expect("get").as_deref(), Some(&b"2"[..]));
    assert_eq!(store.get(TWO, b"gone").expect("get"), None);
}

fn odd_keys(store: &dyn MetadataStore) {
    for key in [&b""[..], b"\0", b"\0\0a", &[0xff; 300]] {
        put(store, ONE, key, b"");
        assert_eq!(store.get(ONE, key).expect("get"), Some(Bytes::new()));
    }
    assert_eq!(keys(store, ONE, b"\0").len(), 2);
    assert_eq!(keys(store, ONE, b"").len(), 4);
}

/// Batches that set a pair of keys in two buckets are never seen half.
fn concurrent<S: MetadataStore>(store: S) {
    let store = Arc::new(store);
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..200u8 {
                    let mut batch = Batch::new();
                    let value = vec![writer, round];
                    batch.put(ONE, vec![b'p', 0], value.clone()).put(ONE, vec![b'p', 1], value);
                    batch.put(TWO, vec![writer, round], vec![round]);
                    store.apply(batch).expect("apply");
                }
            });
        }
        let store = store.clone();
        scope.spawn(move || {
            for _ in 0..200 {
                let pair = store.range(ONE, b"p").expect("range");
                assert!(pair.is_empty() || pair.len() == 2, "half a batch");
                assert!(pair.iter().all(|entry| entry.value == pair[0].value), "half a batch");
            }
        });
    });
    assert_eq!(store.range(TWO, b"").expect("range").len(), 800);
    store.flush().expect("flush");
}
