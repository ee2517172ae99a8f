//! Budgets, against the work that cannot be left out, on the same file system: a tree of 400 MB is written in at most
//! 1.3 times the time in which its files are only read, and a layer of 20,000 files and 300 MB is applied in at most
//! 2.5 times the time in which `std::fs::write` makes those files, without owners, modes and times of their own.
//! `BENCH_PERCENT` makes both smaller.
use std::io;
use std::path::Path;

use buildkit_util_archive::{ApplyOptions, Whiteouts, WriteOptions, apply_layer, write_layer};
use buildkit_util_overlay::Stack;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn percent() -> usize {
    std::env::var("BENCH_PERCENT").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Makes `count` files of `size` bytes, 100 in a directory.
fn make(root: &Path, count: usize, size: usize) {
    let content: Vec<u8> = (0..size + 251).map(|at| (at % 251) as u8).collect();
    for number in 0..count {
        let dir = root.join(format!("dir{}", number / 100));
        if number % 100 == 0 {
            std::fs::create_dir_all(&dir).expect("directory");
        }
        let from = number % 251;
        std::fs::write(dir.join(format!("file{number}")), &content[from..from + size]).expect("file");
    }
}

fn read_all(dir: &Path, buffer: &mut Vec<u8>) {
    for entry in std::fs::read_dir(dir).expect("readdir") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            read_all(&path, buffer);
        } else {
            buffer.clear();
            io::Read::read_to_end(&mut std::fs::File::open(path).expect("opens"), buffer).expect("reads");
        }
    }
}

fn write(c: &mut Criterion) {
    let tree = tempfile::tempdir().expect("temporary directory");
    let count = 40 * percent();
    make(tree.path(), count, 100_000);
    let stack = Stack::new(vec![tree.path().to_owned()]).expect("stack");
    let mut group = c.benchmark_group("write a tree of 400 MB");
    group.sample_size(10).throughput(Throughput::Bytes(100_000 * count as u64));
    group.bench_function("layer", |b| {
        b.iter(|| {
            write_layer(None, Some(&stack), &mut io::sink(), &WriteOptions::default()).expect("writes")
        });
    });
    group.bench_function("files only read", |b| {
        let mut buffer = Vec::new();
        b.iter(|| read_all(tree.path(), &mut buffer));
    });
    group.finish();
}

fn apply(c: &mut Criterion) {
    let tree = tempfile::tempdir().expect("temporary directory");
    let count = 200 * percent();
    make(tree.path(), count, 15_000);
    let stack = Stack::new(vec![tree.path().to_owned()]).expect("stack");
    let mut layer = Vec::new();
    write_layer(None, Some(&stack), &mut layer, &WriteOptions::default()).expect("writes");
    let empty = || tempfile::tempdir().expect("temporary directory");
    let mut group = c.benchmark_group("apply a layer of 20,000 files and 300 MB");
    group.sample_size(10).throughput(Throughput::Bytes(layer.len() as u64));
    group.bench_function("layer", |b| {
        b.iter_batched(
            empty,
            |root| {
                let options = ApplyOptions::new(Whiteouts::Overlay { userxattr: false });
                apply_layer(root.path(), &mut layer.as_slice(), &options).expect("applies");
                root
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("files only made", |b| {
        b.iter_batched(
            empty,
            |root| {
                make(root.path(), count, 15_000);
                root
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, write, apply);
criterion_main!(benches);
