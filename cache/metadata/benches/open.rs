//! Budgets on one core of a 2 GHz machine: opening a store of 100 000 rows of 150 bytes ≤ 600 ms,
//! applying a batch of three rows ≤ 5 µs, reading a row ≤ 1 µs.

use std::hint::black_box;

use buildkit_cache_metadata::{Batch, Bucket, MetadataStore, SledOptions, SledStore};
use criterion::{Criterion, criterion_group, criterion_main};

const ROWS: Bucket = Bucket::new("rows");

fn key(number: usize) -> String {
    format!("sha256:{number:064x}")
}

fn benches(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("temp dir");
    let open = || SledStore::open(dir.path(), SledOptions::default()).expect("open");
    let store = open();
    for start in (0..100_000).step_by(100) {
        let mut batch = Batch::new();
        for number in start..start + 100 {
            batch.put(ROWS, key(number), vec![1u8; 79]);
        }
        store.apply(batch).expect("apply");
    }
    store.flush().expect("flush");
    drop(store);

    let mut group = criterion.benchmark_group("metadata");
    group.sample_size(10);
    group.bench_function("open 100k rows", |bencher| {
        bencher.iter_batched(|| (), |()| black_box(open()), criterion::BatchSize::PerIteration);
    });
    let store = open();
    let mut number = 0;
    group.bench_function("apply three rows", |bencher| {
        bencher.iter(|| {
            let mut batch = Batch::new();
            for row in 0..3 {
                batch.put(ROWS, key(number + row), vec![2u8; 79]);
            }
            number = (number + 3) % 100_000;
            store.apply(batch).expect("apply");
        });
    });
    group.bench_function("get", |bencher| {
        let key = key(77_777);
        bencher.iter(|| black_box(store.get(ROWS, key.as_bytes()).expect("get")));
    });
    group.finish();
}

criterion_group!(metadata, benches);
criterion_main!(metadata);
