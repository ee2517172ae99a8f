//! Layers made of trees and trees made of layers, as exports and pulls do it, on overlayfs. Needs root.
//!
//! Budgets, against the work that cannot be left out, in the same run and on the same file system:
//! - making and storing a layer of 400 MB: uncompressed ≤ 2 times copying its files; with gzip or zstd ≤ 1.3 times
//!   compressing as much in memory on all processors;
//! - storing and unpacking 8 layers of 50 MB ≤ 1.8 times decompressing them in memory, one on each processor.
//!
//! `BENCH_PERCENT` makes all smaller.
use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_cache::{
    BlobSource, CacheManager, CacheOptions, CreateOptions, GcPolicy, ImmutableRef, LayerBlob, LayerOptions,
};
use buildkit_cache_metadata::MemoryStore;
use buildkit_util_compression::{Compression, Config, Encoder, decoder, detect};
use buildkit_util_contentutil::{BlobStream, Error, LocalStore, Provider, read_all};
use buildkit_util_ocispec::Descriptor;
use buildkit_util_progress::Writer as Progress;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

fn percent() -> usize {
    std::env::var("BENCH_PERCENT").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Words in no order, which compress to about two thirds.
fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let words: Vec<Vec<u8>> =
        (0..4000).map(|_| (0..3 + next() % 10).map(|_| next() as u8).collect()).collect();
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        out.extend_from_slice(&words[next() % words.len()]);
    }
    out.truncate(len);
    out
}

async fn open(root: &Path) -> CacheManager {
    CacheManager::open(CacheOptions {
        snapshotter: Arc::new(
            buildkit_snapshot_overlayfs::open(root.join("snapshots")).expect("overlayfs, as root"),
        ),
        metadata: Arc::new(MemoryStore::default()),
        content: Arc::new(LocalStore::open(root.join("content")).expect("content store")),
        mount_root: root.join("mounts"),
        root: root.to_owned(),
        clock: SystemTime::now,
    })
    .await
    .expect("cache")
}

/// A tree with files of 2 MB.
async fn tree(cache: &CacheManager, files: usize, seed: u64) -> ImmutableRef {
    let tree = cache.create(None, CreateOptions::default()).await.expect("record");
    {
        let mount = tree.mount_local().await.expect("mount");
        for number in 0..files {
            let path = mount.path().join(format!("file{number}"));
            std::fs::write(path, content(2_000_000, seed + number as u64)).expect("file");
        }
    }
    tree.commit().await.expect("commit")
}

async fn prune(cache: &CacheManager) {
    let everything = GcPolicy { all: true, ..GcPolicy::default() };
    cache.prune(&[everything], |_| {}).await.expect("prune");
}

fn export(c: &mut Criterion) {
    let runtime = Runtime::new().expect("runtime");
    let files = 2 * percent();
    let mut group = c.benchmark_group("layer of a tree of 400 MB");
    group.sample_size(10).throughput(Throughput::Bytes(2_000_000 * files as u64));
    for kind in [Compression::Uncompressed, Compression::Gzip, Compression::Zstd] {
        let compression = Config { kind, ..Config::default() };
        group.bench_function(kind.to_string(), |b| {
            b.iter_custom(|rounds| {
                let mut time = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    let dir = tempfile::tempdir().expect("temporary directory");
                    runtime.block_on(async {
                        let cache = open(dir.path()).await;
                        let tree = tree(&cache, files, 1).await;
                        let start = std::time::Instant::now();
                        let options = LayerOptions { compression, ..LayerOptions::default() };
                        tree.layers(&options).await.expect("layer");
                        time += start.elapsed();
                        drop(tree);
                        cache.close().await;
                    });
                }
                time
            });
        });
    }
    let all: Vec<Vec<u8>> = (0..files).map(|number| content(2_000_000, 1 + number as u64)).collect();
    group.bench_function("its files only copied", |b| {
        let dir = tempfile::tempdir().expect("temporary directory");
        for (number, content) in all.iter().enumerate() {
            std::fs::write(dir.path().join(number.to_string()), content).expect("file");
        }
        b.iter(|| {
            let mut out = std::fs::File::create(dir.path().join("copy")).expect("file");
            let mut buffer = vec![0; 256 << 10];
            for number in 0..all.len() {
                let mut file = std::fs::File::open(dir.path().join(number.to_string())).expect("file");
                loop {
                    let count = file.read(&mut buffer).expect("reads");
                    if count == 0 {
                        break;
                    }
                    out.write_all(&buffer[..count]).expect("writes");
                }
            }
        });
    });
    for kind in [Compression::Gzip, Compression::Zstd] {
        group.bench_function(format!("{kind} in memory only"), |b| {
            b.iter(|| {
                let config = Config { kind, ..Config::default() };
                let mut encoder = Encoder::new(config, io::sink()).expect("encoder");
                all.iter().for_each(|content| encoder.write_all(content).expect("compresses"));
                encoder.finish().expect("finishes");
            });
        });
    }
    group.finish();
}

/// A registry in memory.
struct Blobs(HashMap<String, Bytes>);

#[async_trait]
impl Provider for Blobs {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        let bytes = self.0.get(blob.digest.as_str()).ok_or_else(|| Error::NotFound(blob.digest.clone()))?;
        let rest = bytes.slice(usize::try_from(offset).expect("small")..);
        let chunks: Vec<_> = (0..rest.len())
            .step_by(64 << 10)
            .map(|at| rest.slice(at..rest.len().min(at + (64 << 10))))
            .collect();
        Ok(Box::pin(futures::stream::iter(chunks.into_iter().map(Ok))))
    }
}

/// An image of some layers with gzip.
async fn image(layers: usize, files: usize) -> (Vec<LayerBlob>, Arc<Blobs>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let cache = open(dir.path()).await;
    let (mut image, mut blobs) = (Vec::new(), HashMap::new());
    for number in 0..layers {
        let tree = tree(&cache, files, 1000 * number as u64).await;
        let remote = tree.layers(&LayerOptions::default()).await.expect("layer");
        for descriptor in remote.descriptors {
            let bytes = read_all(remote.provider.as_ref(), &descriptor).await.expect("blob");
            blobs.insert(descriptor.digest.to_string(), bytes);
            let diff_id = descriptor.diff_id().expect("diff id");
            image.push(LayerBlob { descriptor, diff_id });
        }
    }
    cache.close().await;
    (image, Arc::new(Blobs(blobs)))
}

fn pull(c: &mut Criterion) {
    let runtime = Runtime::new().expect("runtime");
    let files = percent().div_ceil(4);
    let (image, blobs) = runtime.block_on(image(8, files));
    let dir = tempfile::tempdir().expect("temporary directory");
    let cache = runtime.block_on(open(dir.path()));
    let mut group = c.benchmark_group("tree of 8 layers of 50 MB");
    group.sample_size(10).throughput(Throughput::Bytes(8 * 2_000_000 * files as u64));
    group.bench_function("stored and unpacked", |b| {
        b.iter_custom(|rounds| {
            runtime.block_on(async {
                let mut time = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    let digests = image.iter().map(|layer| layer.descriptor.digest.clone());
                    let source = BlobSource { provider: blobs.clone(), progress: Progress::discard() };
                    let _offer = cache.offer(digests, source);
                    let start = std::time::Instant::now();
                    let mut tree: Option<ImmutableRef> = None;
                    for layer in &image {
                        tree = Some(
                            cache.layer(tree.as_ref(), layer, CreateOptions::default()).expect("record"),
                        );
                    }
                    let tree = tree.expect("a layer");
                    drop(tree.mount_local().await.expect("mount"));
                    time += start.elapsed();
                    drop(tree);
                    prune(&cache).await;
                }
                time
            })
        });
    });
    group.bench_function("decompressed in memory only", |b| {
        let all: Vec<&Bytes> = blobs.0.values().collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(all.len());
        b.iter(|| {
            std::thread::scope(|scope| {
                for part in all.chunks(all.len().div_ceil(threads)) {
                    scope.spawn(move || {
                        for bytes in part {
                            let mut decoder =
                                decoder(detect(bytes), io::Cursor::new(bytes)).expect("decoder");
                            io::copy(&mut decoder, &mut io::sink()).expect("decompresses");
                        }
                    });
                }
            });
        });
    });
    group.finish();
    runtime.block_on(cache.close());
}

criterion_group!(benches, export, pull);
criterion_main!(benches);
