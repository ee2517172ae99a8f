//! The conformance suite of [`ContentStore`], for its implementations.

use std::io::{Read, Seek, SeekFrom, Write};

use buildkit_util_cachedigest::Digest;

use crate::{ContentStore, Error, Expected};

/// Runs all cases on an empty store.
///
/// # Panics
/// When the store breaks the contract.
pub fn run(store: &dyn ContentStore) {
    run_without_damage(store);

    // A blob of another size is none.
    let mut ingester = store.ingest(Expected::default()).expect("ingest");
    ingester.write_all(b"abc").expect("write");
    let info = ingester.commit().expect("commit");
    assert!(matches!(store.open(&info.digest, Some(4)), Err(Error::Damaged(_))));
    assert!(matches!(store.open(&info.digest, None), Err(Error::NotFound(_))));
}

/// Runs those cases that also stores pass that remove no damaged blobs, on an empty store.
///
/// # Panics
/// When the store breaks the contract.
pub fn run_without_damage(store: &dyn ContentStore) {
    let content = vec![7u8; 1 << 20];
    let digest = Digest::sha256(&content);
    assert!(matches!(store.info(&digest), Err(Error::NotFound(_))));
    assert!(matches!(store.open(&digest, None), Err(Error::NotFound(_))));
    assert!(matches!(store.delete(&digest), Err(Error::NotFound(_))));
    assert!(store.list().expect("list").is_empty());

    // Stored in pieces, seen only when it is complete.
    let mut ingester =
        store.ingest(Expected { digest: Some(digest.clone()), size: Some(1 << 20) }).expect("ingest");
    assert!(ingester.is_empty());
    for piece in content.chunks(1000) {
        ingester.write_all(piece).expect("write");
    }
    assert_eq!(ingester.len(), 1 << 20);
    assert!(matches!(store.info(&digest), Err(Error::NotFound(_))));
    let info = ingester.commit().expect("commit");
    assert_eq!((&info.digest, info.size), (&digest, 1 << 20));
    assert_eq!(store.info(&digest).expect("info").size, 1 << 20);
    let mut reader = store.open(&digest, Some(1 << 20)).expect("open");
    let mut read = Vec::new();
    reader.read_to_end(&mut read).expect("read");
    assert_eq!(read, content);
    assert_eq!(reader.seek(SeekFrom::Start(10)).expect("seek"), 10);

    // Again, without expectations, is the same blob.
    let mut ingester = store.ingest(Expected::default()).expect("ingest");
    ingester.write_all(&content).expect("write");
    assert_eq!(ingester.commit().expect("commit").digest, digest);
    assert_eq!(store.list().expect("list").len(), 1);

    // What is not as expected, or not finished, leaves nothing.
    let cases = [
        (Expected { digest: Some(digest.clone()), size: None }, "digest"),
        (Expected { digest: None, size: Some(9) }, "size"),
    ];
    for (expected, what) in cases {
        let mut ingester = store.ingest(expected).expect("ingest");
        ingester.write_all(b"other").expect("write");
        match ingester.commit() {
            Err(Error::Mismatch { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    let mut ingester = store.ingest(Expected { digest: None, size: Some(3) }).expect("ingest");
    ingester.write_all(b"abc").expect("write");
    ingester.write_all(b"d").expect_err("too much");
    drop(ingester);
    let other = Digest::from_hash("sha512", &[0; 64]);
    assert!(matches!(store.ingest(Expected { digest: Some(other), size: None }), Err(Error::Algorithm(_))));
    assert_eq!(store.list().expect("list").len(), 1);

    // A reader goes on when the blob is removed.
    let mut reader = store.open(&digest, None).expect("open");
    store.delete(&digest).expect("delete");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("read");
    assert_eq!(rest.len(), 1 << 20);
    assert!(store.list().expect("list").is_empty());
}
