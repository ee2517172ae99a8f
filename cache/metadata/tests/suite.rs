//! Both stores keep the contract.

use buildkit_cache_metadata::{MemoryStore, SledOptions, SledStore, testsuite};

#[test]
fn memory_store_conforms() {
    testsuite::run(MemoryStore::new);
}

#[test]
fn sled_store_conforms() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut number = 0;
    testsuite::run(|| {
        number += 1;
        SledStore::open(dir.path().join(number.to_string()), SledOptions::default()).expect("open")
    });
}
