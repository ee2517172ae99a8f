//! Budgets on one core of a 2 GHz machine with ext4: prepare and commit of a snapshot with one file
//! ≤ 200 µs, a mount of a stack of 100 layers ≤ 1 ms, a merge of two trees of 1000 files ≤ 30 ms.

use std::hint::black_box;
use std::path::Path;

use buildkit_snapshot::{ActiveKey, LocalMounter, MergeInput, SnapshotName, Snapshotter};
use buildkit_snapshot_overlayfs::{OverlaySnapshotter, open};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

fn key() -> ActiveKey {
    ActiveKey("key".to_owned())
}

fn name(name: impl ToString) -> SnapshotName {
    SnapshotName(name.to_string())
}

async fn layer(
    snapshots: &OverlaySnapshotter,
    mounter: &LocalMounter,
    of: &SnapshotName,
    parent: Option<&SnapshotName>,
    change: impl FnOnce(&Path),
) {
    snapshots.prepare(&key(), parent).await.expect("prepare");
    let guard = mounter.mount(&snapshots.mounts(&key()).await.expect("mounts")).expect("mount");
    change(guard.path());
    drop(guard);
    snapshots.commit(of, &key()).await.expect("commit");
}

fn benches(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("temp dir");
    let runtime = Runtime::new().expect("runtime");
    let snapshots = open(dir.path().join("root")).expect("open");
    let mounter = LocalMounter::open(dir.path().join("mounts")).expect("mounter");
    let mut group = criterion.benchmark_group("overlayfs");
    group.sample_size(20);

    let mut number = 0u32;
    group.bench_function("prepare and commit", |bencher| {
        bencher.iter(|| {
            number += 1;
            let write = |root: &Path| std::fs::write(root.join("file"), b"x").expect("write");
            runtime.block_on(layer(&snapshots, &mounter, &name(number), None, write));
        });
    });

    for depth in [1u32, 10, 100, 300] {
        for number in 0..=depth {
            let parent = number.checked_sub(1).map(|below| name(format!("{depth}.{below}")));
            runtime.block_on(async {
                snapshots.prepare(&key(), parent.as_ref()).await.expect("prepare");
                snapshots.commit(&name(format!("{depth}.{number}")), &key()).await.expect("commit");
            });
        }
        let view = runtime.block_on(snapshots.view(&name(format!("{depth}.{depth}")))).expect("view");
        group.bench_function(format!("mount {depth} layers"), |bencher| {
            bencher.iter(|| drop(black_box(mounter.mount(&view).expect("mount"))));
        });
    }

    for tree in ["left", "right"] {
        runtime.block_on(layer(&snapshots, &mounter, &name(tree), None, |root| {
            for number in 0..1000 {
                let path = root.join(format!("{}/{tree}{number}", number % 20));
                std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
                std::fs::write(path, b"content").expect("write");
            }
        }));
    }
    let inputs = ["left", "right"].map(|tree| MergeInput { lower: None, upper: Some(name(tree)) });
    let merged = name("merged");
    group.bench_function("merge 1000 files onto 1000", |bencher| {
        bencher.iter_batched(
            || {
                let _ = runtime.block_on(snapshots.remove(&merged));
            },
            |()| runtime.block_on(snapshots.merge(&merged, &inputs)).expect("merge"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(overlayfs, benches);
criterion_main!(overlayfs);
