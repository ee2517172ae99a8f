//! The conformance suite of [`CacheKeyStore`]: every implementation calls [`run`].

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use buildkit_util_cachedigest::Digest;

use crate::{
    CacheKeyStore, KeyId, Link, LinkQuery, NewKey, Parent, Record, ResultId, ensure_key, root_key,
    save_record,
};

fn root(name: &str) -> KeyId {
    root_key(&Digest::sha256(name), Some(0))
}

fn link(input: u32, name: &str, selector: Option<&str>) -> Link {
    Link { input, digest: Digest::sha256(name), output: 0, selector: selector.map(Digest::sha256) }
}

fn record(name: &str, seconds: u64) -> Record {
    let created_at = SystemTime::UNIX_EPOCH + Duration::new(seconds, 5);
    Record { result: ResultId(name.to_owned()), created_at, priority: 0 }
}

fn parent(key: &KeyId, selector: Option<&str>) -> Parent {
    Parent { key: key.clone(), selector: selector.map(Digest::sha256) }
}

fn ask(store: &dyn CacheKeyStore, link: &Link, parents: &[Parent]) -> Vec<Vec<KeyId>> {
    let query = LinkQuery {
        input: link.input,
        digest: link.digest.clone(),
        output: link.output,
        parents: parents.to_vec(),
    };
    let mut answers = store.query(&[query]).expect("answers");
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Runs all cases, each on a new store.
pub fn run<S: CacheKeyStore>(mut make: impl FnMut() -> S) {
    empty(&make());
    links(&make());
    records(&make());
    release(&make());
    new_keys(&make());
    results(&make());
    preimages(&make());
}

fn empty(store: &dyn CacheKeyStore) {
    let key = root("a");
    assert!(!store.exists(&key).expect("answers"));
    assert!(store.records(&key).expect("answers").is_empty());
    assert!(store.backlinks(&key).expect("answers").is_empty());
    assert_eq!(ask(store, &link(0, "x", None), &[parent(&key, None)]), [Vec::new()]);
    store.release(&ResultId("nothing".to_owned())).expect("is no error");
    assert!(store.query(&[]).expect("answers").is_empty());
}

fn links(store: &dyn CacheKeyStore) {
    let (a, b, child) = (root("a"), root("b"), root("child"));
    let plain = link(0, "x", None);
    store.add_link(&a, &plain, &child).expect("takes");
    store.add_link(&a, &plain, &child).expect("takes it twice");
    store.add_link(&a, &link(0, "x", Some("part")), &b).expect("takes");
    assert!(store.exists(&a).expect("answers"));
    assert!(!store.exists(&child).expect("answers"), "a key that leads nowhere is none");
    let found = ask(store, &plain, &[parent(&a, None), parent(&b, None), parent(&a, Some("part"))]);
    assert_eq!(found, [vec![child.clone()], vec![], vec![b]]);
    let other_output = Link { output: 1, ..plain.clone() };
    for other in [link(1, "x", None), link(0, "y", None), other_output] {
        assert_eq!(ask(store, &other, &[parent(&a, None)]), [Vec::new()], "{other:?}");
    }
    assert_eq!(store.backlinks(&child).expect("answers"), [(a, plain)]);
}

fn records(store: &dyn CacheKeyStore) {
    let key = root("a");
    store.add_record(&key, &record("one", 1)).expect("takes");
    store.add_record(&key, &record("two", 2)).expect("takes");
    store.add_record(&key, &record("one", 3)).expect("replaces");
    let mut found = store.records(&key).expect("answers");
    found.sort_by_key(|record| record.created_at);
    assert_eq!(found, [record("two", 2), record("one", 3)]);
    assert!(store.exists(&key).expect("answers"));
}

fn release(store: &dyn CacheKeyStore) {
    let (top, middle, left, right) = (root("top"), root("middle"), root("left"), root("right"));
    store.add_link(&top, &link(0, "m", None), &middle).expect("takes");
    store.add_link(&middle, &link(0, "l", None), &left).expect("takes");
    store.add_link(&middle, &link(0, "r", None), &right).expect("takes");
    store.add_record(&left, &record("both", 1)).expect("takes");
    store.add_record(&right, &record("both", 1)).expect("takes");
    store.add_record(&right, &record("other", 1)).expect("takes");
    store.release(&ResultId("both".to_owned())).expect("takes");
    assert!(!store.exists(&left).expect("answers"));
    assert!(store.exists(&right).expect("answers"));
    assert_eq!(ask(store, &link(0, "l", None), &[parent(&middle, None)]), [Vec::new()]);
    store.release(&ResultId("other".to_owned())).expect("takes");
    for key in [top, middle, left, right] {
        assert!(!store.exists(&key).expect("answers"), "chains to nothing vanish");
        assert!(store.backlinks(&key).expect("answers").is_empty());
    }
}

fn new_keys(store: &dyn CacheKeyStore) {
    let (a, b, c) = (root("a"), root("b"), root("c"));
    let new = |parents: &[&[&KeyId]]| NewKey {
        digest: Digest::sha256("op"),
        output: 0,
        parents: parents.iter().map(|keys| keys.iter().map(|key| parent(key, None)).collect()).collect(),
        preimage: None,
    };
    let first = save_record(store, &new(&[&[&a], &[&b]]), &record("one", 1)).expect("takes");
    assert_eq!(ensure_key(store, &new(&[&[&a], &[&b]])).expect("takes"), first, "same parents, same key");
    assert_ne!(ensure_key(store, &new(&[&[&b], &[&a]])).expect("takes"), first, "inputs are told apart");
    let more = ensure_key(store, &new(&[&[&a, &c], &[&b]])).expect("takes");
    assert_eq!(more, first, "one known parent for each input is enough");
    assert_eq!(ensure_key(store, &new(&[&[&c], &[&b]])).expect("takes"), first, "the other one was linked");
    let parents: BTreeSet<KeyId> =
        store.backlinks(&first).expect("answers").into_iter().map(|(key, _)| key).collect();
    assert_eq!(parents, BTreeSet::from([a, b, c]));
    let root_of = NewKey { digest: Digest::sha256("r"), output: 2, parents: Vec::new(), preimage: None };
    let id = ensure_key(store, &root_of).expect("takes");
    assert_eq!(id, root_key(&Digest::sha256("r"), Some(2)));
}

fn results(store: &dyn CacheKeyStore) {
    let (a, b) = (root("a"), root("b"));
    store.add_record(&a, &record("one", 1)).expect("takes");
    store.add_record(&b, &record("one", 1)).expect("takes");
    store.add_record(&b, &record("two", 1)).expect("takes");
    let one = ResultId("one".to_owned());
    let mut keys = store.keys_of(&one).expect("answers");
    keys.sort();
    let mut expect = [a, b];
    expect.sort();
    assert_eq!(keys, expect);
    let mut all = store.results().expect("answers");
    all.sort();
    assert_eq!(all, [one, ResultId("two".to_owned())]);
}

fn preimages(store: &dyn CacheKeyStore) {
    let key = root("a");
    assert_eq!(store.preimage(&key).expect("answers"), None);
    store.add_record(&key, &record("one", 1)).expect("takes");
    store.set_preimage(&key, "made of this").expect("takes");
    assert_eq!(store.preimage(&key).expect("answers").as_deref(), Some("made of this"));
    store.release(&ResultId("one".to_owned())).expect("takes");
    assert_eq!(store.preimage(&key).expect("answers"), None);
}
