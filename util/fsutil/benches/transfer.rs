//! Budget: 20,000 files of 3 KiB, all new, in at most twice the time in which `std::fs::write` makes
//! them one after another; nothing changed, in at most a quarter of it.
use std::sync::Arc;

use buildkit_util_fsutil::{DirFs, ReceiveOptions, SendOptions, receive, send};
use buildkit_util_system::Root;
use criterion::{Criterion, criterion_group, criterion_main};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};

type Never = std::convert::Infallible;

async fn transfer(source: &std::path::Path, dest: &std::path::Path) {
    let (to_receiver, from_sender) = mpsc::channel(64);
    let (to_sender, from_receiver) = mpsc::unbounded_channel();
    let fs = Arc::new(DirFs::open(source).expect("opens"));
    let mut requests = UnboundedReceiverStream::new(from_receiver).map(Ok::<_, Never>);
    let mut packets = ReceiverStream::new(from_sender).map(Ok::<_, Never>);
    let dest = Root::open(dest).expect("opens");
    let (sent, received) = tokio::join!(
        send(fs, &mut requests, to_receiver, SendOptions::default()),
        receive(dest, &mut packets, to_sender, ReceiveOptions::default()),
    );
    sent.expect("sends");
    received.expect("receives");
}

fn bench(c: &mut Criterion) {
    let source = tempfile::tempdir().expect("temporary directory");
    for i in 0..20_000 {
        let dir = source.path().join(format!("d{}", i % 100));
        std::fs::create_dir_all(&dir).expect("directory");
        std::fs::write(dir.join(format!("f{i}")), vec![i as u8; 3 << 10]).expect("file");
    }
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let mut group = c.benchmark_group("20k files of 3 KiB");
    group.sample_size(10);
    group.bench_function("all new", |b| {
        b.iter_batched(
            || tempfile::tempdir().expect("temporary directory"),
            |dest| {
                runtime.block_on(transfer(source.path(), dest.path()));
                dest
            },
            criterion::BatchSize::PerIteration,
        );
    });
    let dest = tempfile::tempdir().expect("temporary directory");
    runtime.block_on(transfer(source.path(), dest.path()));
    group.bench_function("unchanged", |b| {
        b.iter(|| runtime.block_on(transfer(source.path(), dest.path())));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
