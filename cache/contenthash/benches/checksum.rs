//! Checksum of a tree of 10,000 files of 1 KiB in 100 directories.
//!
//! Budgets on two cores: unknown tree ≤ 250 ms, known tree ≤ 5 µs, filtered query of a known tree
//! ≤ 60 ms, memory and stored form ≤ 200 bytes a file and path.

use std::hint::black_box;

use buildkit_cache_contenthash::{ChecksumOptions, Tree};
use buildkit_util_system::Root;
use criterion::{Criterion, criterion_group, criterion_main};

fn checksum(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("directory");
    for at in 0..100 {
        let inner = directory.path().join(format!("directory-{at}"));
        std::fs::create_dir(&inner).expect("directory");
        for file in 0..100 {
            std::fs::write(inner.join(format!("file-{file}")), [b'x'; 1024]).expect("file");
        }
    }
    let root = Root::open(directory.path()).expect("root");
    let all = ChecksumOptions::default();
    criterion.bench_function("unknown tree", |bencher| {
        bencher.iter(|| black_box(Tree::new().checksum(Some(&root), "/", &all)));
    });
    let mut known = Tree::new();
    known.checksum(Some(&root), "/", &all).expect("hashes");
    criterion.bench_function("known tree", |bencher| {
        bencher.iter(|| black_box(known.checksum(None, "/", &all)));
    });
    let filtered = ChecksumOptions { include: vec!["**/file-1*".to_owned()], ..all };
    criterion.bench_function("filtered", |bencher| {
        bencher.iter(|| black_box(known.checksum(None, "/", &filtered)));
    });
    let stored = known.to_bytes();
    assert!(stored.len() < 200 * known.len());
    criterion.bench_function("load", |bencher| {
        bencher.iter(|| black_box(Tree::from_bytes(&stored)));
    });
}

criterion_group!(benches, checksum);
criterion_main!(benches);
