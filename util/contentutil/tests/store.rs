//! Both stores keep the contract, and files survive what they must.

use std::io::{Read, Write};

use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{ContentStore, Error, Expected, LocalStore, MemoryStore, testsuite};

#[test]
fn stores_conform() {
    testsuite::run(&MemoryStore::default());
    let dir = tempfile::tempdir().expect("temp dir");
    let store = LocalStore::open(dir.path()).expect("open");
    testsuite::run(&store);
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).expect("ingest").count(), 0);
}

fn put(store: &LocalStore, content: &[u8]) -> Digest {
    let mut ingester = store.ingest(Expected::default()).expect("ingest");
    ingester.write_all(content).expect("write");
    ingester.commit().expect("commit").digest
}

#[test]
fn a_restart_removes_halves_and_finds_damage() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = LocalStore::open(dir.path()).expect("open");
    let (good, bad) = (put(&store, b"good"), put(&store, b"bad!"));
    let mut half = store.ingest(Expected::default()).expect("ingest");
    half.write_all(b"half").expect("write");
    let path = store.path(&bad).expect("path");
    assert!(path.ends_with(format!("blobs/sha256/{}", bad.encoded())));
    std::fs::write(&path, b"BAD!").expect("damage");
    // A killed process closes nothing.
    std::mem::forget((half, store));

    let store = LocalStore::open(dir.path()).expect("open");
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).expect("ingest").count(), 0);
    assert!(matches!(store.open(&bad, Some(4)), Err(Error::Damaged(_))));
    assert!(matches!(store.open(&bad, Some(4)), Err(Error::NotFound(_))));
    let mut text = String::new();
    store.open(&good, Some(4)).expect("open").read_to_string(&mut text).expect("read");
    assert_eq!(text, "good");
    drop(store);

    // After an orderly stop nothing is hashed again: same size, so the damage is not noticed here.
    let store = LocalStore::open(dir.path()).expect("open");
    std::fs::write(store.path(&good).expect("path"), b"GOOD").expect("damage");
    assert!(store.open(&good, Some(4)).is_ok());
    assert!(matches!(store.open(&good, Some(5)), Err(Error::Damaged(_))));
}
