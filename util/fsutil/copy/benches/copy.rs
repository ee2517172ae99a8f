//! Budget: 10,000 files of 3 KiB in at most 0.6 s. To be run in memory (`TMPDIR=/dev/shm`): ext4 looks long
//! for inodes after as many were deleted, which this does between two runs.
use buildkit_util_fsutil_copy::{CopyOptions, copy};
use buildkit_util_system::Root;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let source = tempfile::tempdir().expect("temporary directory");
    for i in 0..10_000 {
        let dir = source.path().join(format!("d{}", i % 100));
        std::fs::create_dir_all(&dir).expect("directory");
        std::fs::write(dir.join(format!("f{i}")), vec![i as u8; 3 << 10]).expect("file");
    }
    let root = Root::open(source.path()).expect("opens");
    let options = CopyOptions { copy_dir_contents: true, ..CopyOptions::default() };
    let mut group = c.benchmark_group("copy");
    group.sample_size(10);
    group.bench_function("10k files of 3 KiB", |b| {
        b.iter_batched(
            || tempfile::tempdir().expect("temporary directory"),
            |dest| {
                let dst = Root::open(dest.path()).expect("opens");
                copy(&root, "/", &dst, "/", &options).expect("copies");
                dest
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
