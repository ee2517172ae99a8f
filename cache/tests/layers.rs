//! Trees that are known as layers, and layers that are made of trees. Needs root.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use buildkit_cache::{
    BlobSource, CacheManager, CacheOptions, CreateOptions, Error, GcPolicy, ImmutableRef, LayerBlob,
    LayerOptions, Offer,
};
use buildkit_cache_metadata::MemoryStore as MemoryMetadata;
use buildkit_snapshot::Snapshotter;
use buildkit_util_appcontext::spawn;
use buildkit_util_archive::{Header, Writer, kind};
use buildkit_util_cachedigest::Digest;
use buildkit_util_compression::{Compression, Config, Encoder};
use buildkit_util_contentutil::{
    self as contentutil, BlobStream, ContentStore, LocalStore, Provider, read_all,
};
use buildkit_util_ocispec::{Descriptor, media_type};
use buildkit_util_progress::Writer as Progress;
use bytes::Bytes;
use parking_lot::Mutex;

struct Fixture {
    dir: tempfile::TempDir,
    metadata: Arc<MemoryMetadata>,
    overlay: bool,
}

impl Fixture {
    fn new(overlay: bool) -> Self {
        Self { dir: tempfile::tempdir().expect("temp dir"), metadata: Arc::default(), overlay }
    }

    async fn open(&self) -> CacheManager {
        let root = self.dir.path();
        let snapshots = root.join("snapshots");
        let snapshotter: Arc<dyn Snapshotter> = match self.overlay {
            true => Arc::new(buildkit_snapshot_overlayfs::open(snapshots).expect("overlayfs")),
            false => Arc::new(buildkit_snapshot_native::open(snapshots).expect("native")),
        };
        CacheManager::open(CacheOptions {
            snapshotter,
            metadata: self.metadata.clone(),
            content: Arc::new(LocalStore::open(root.join("content")).expect("content")),
            mount_root: root.join("mounts"),
            root: root.to_owned(),
            clock: SystemTime::now,
        })
        .await
        .expect("open")
    }
}

/// Something that layers are fetched from.
#[derive(Default)]
struct Shop {
    blobs: Mutex<HashMap<Digest, Bytes>>,
    reads: AtomicUsize,
    /// Waits before it gives anything.
    slow: bool,
}

impl Shop {
    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Provider for Shop {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, contentutil::Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.slow {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let found = self.blobs.lock().get(&blob.digest).cloned();
        let bytes = found.ok_or_else(|| contentutil::Error::NotFound(blob.digest.clone()))?;
        let bytes = bytes.slice(usize::try_from(offset).expect("small")..);
        let chunks: Vec<_> = bytes.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Ok(Box::pin(futures::stream::iter(chunks)))
    }
}

enum Entry<'a> {
    Dir(&'a str),
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
}

/// A layer of these entries, compressed with gzip.
fn layer(shop: &Shop, entries: &[Entry<'_>]) -> LayerBlob {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let (header, content) = match entry {
            Entry::Dir(name) => {
                let name = format!("{name}/").into_bytes();
                (Header { kind: kind::DIRECTORY, name, mode: 0o755, ..Header::default() }, "")
            }
            Entry::File(name, content) => {
                let size = i64::try_from(content.len()).expect("small");
                let name = name.as_bytes().to_vec();
                (Header { kind: kind::REGULAR, name, mode: 0o644, size, ..Header::default() }, *content)
            }
            Entry::Link(name, target) => {
                let (name, link) = (name.as_bytes().to_vec(), target.as_bytes().to_vec());
                (Header { kind: kind::LINK, name, link, mode: 0o644, ..Header::default() }, "")
            }
        };
        writer.entry(&header).expect("entry");
        writer.content(content.as_bytes()).expect("content");
    }
    let archive = writer.finish().expect("archive");
    let mut encoder = Encoder::new(Config::default(), Vec::new()).expect("encoder");
    std::io::Write::write_all(&mut encoder, &archive).expect("compress");
    let bytes = encoder.finish().expect("compress");
    let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes);
    shop.blobs.lock().insert(descriptor.digest.clone(), bytes.into());
    LayerBlob { descriptor, diff_id: Digest::sha256(archive) }
}

fn offer(cache: &CacheManager, shop: &Arc<Shop>) -> Offer {
    let digests: Vec<Digest> = shop.blobs.lock().keys().cloned().collect();
    cache.offer(digests, BlobSource { provider: shop.clone(), progress: Progress::discard() })
}

fn tree(cache: &CacheManager, layers: &[LayerBlob]) -> ImmutableRef {
    let mut tree = None;
    for layer in layers {
        tree = Some(cache.layer(tree.as_ref(), layer, CreateOptions::default()).expect("layer"));
    }
    tree.expect("a layer")
}

async fn read(tree: &ImmutableRef, path: &str) -> Option<String> {
    let mount = tree.mount_local().await.expect("mount");
    std::fs::read_to_string(mount.path().join(path)).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_fetched_when_files_are_needed() {
    for overlay in [true, false] {
        let on = Fixture::new(overlay);
        let cache = on.open().await;
        let shop = Arc::new(Shop::default());
        let layers = [
            layer(&shop, &[Entry::Dir("etc"), Entry::File("etc/a", "1"), Entry::File("etc/b", "1")]),
            layer(&shop, &[Entry::Dir("etc"), Entry::File("etc/a", "2"), Entry::File("etc/.wh.b", "")]),
            // Refers to the layers below it: a hard link, and a directory that it does not have.
            layer(&shop, &[Entry::Link("etc/c", "etc/a"), Entry::File("new/deep/d", "3")]),
            layer(
                &shop,
                &[Entry::Dir("etc"), Entry::File("etc/.wh..wh..opq", ""), Entry::File("etc/e", "4")],
            ),
            // Hides everything, which overlayfs cannot say of a root.
            layer(&shop, &[Entry::File(".wh..wh..opq", ""), Entry::File("only", "5")]),
        ];
        let offered = offer(&cache, &shop);
        let third = tree(&cache, &layers[..3]);
        assert!(third.is_available());
        assert_eq!(shop.reads(), 0, "nothing was needed");
        assert_eq!(third.size().await.unwrap(), 0);
        for (path, content) in
            [("etc/a", Some("2")), ("etc/b", None), ("etc/c", Some("2")), ("new/deep/d", Some("3"))]
        {
            assert_eq!(read(&third, path).await.as_deref(), content, "{path} overlay {overlay}");
        }
        assert_eq!(shop.reads(), 3, "each once");
        assert!(third.size().await.unwrap() > 0);
        let fourth = tree(&cache, &layers[..4]);
        assert_eq!(read(&fourth, "etc/e").await.as_deref(), Some("4"));
        assert_eq!(read(&fourth, "etc/a").await, None, "overlay {overlay}");
        assert_eq!(shop.reads(), 4, "what is there is used again");
        let all = tree(&cache, &layers);
        assert_eq!(read(&all, "only").await.as_deref(), Some("5"), "overlay {overlay}");
        assert_eq!(read(&all, "etc/e").await, None, "overlay {overlay}");
        drop(offered);
        // After a restart all is still there.
        let id = all.id().clone();
        drop((third, fourth, all));
        cache.close().await;
        drop(cache);
        let cache = on.open().await;
        assert_eq!(read(&cache.get(&id).await.unwrap(), "only").await.as_deref(), Some("5"));
        // Blobs go with their records.
        assert_eq!(cache.content().list().unwrap().len(), 5);
        let everything = GcPolicy { all: true, ..GcPolicy::default() };
        cache.prune(&[everything], |_| {}).await.unwrap();
        assert_eq!(cache.content().list().unwrap().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b_44_a_blob_is_fetched_once_for_all_and_from_another_source_if_one_fails() {
    let on = Fixture::new(true);
    let cache = on.open().await;
    let shop = Arc::new(Shop { slow: true, ..Shop::default() });
    let layers = [layer(&shop, &[Entry::File("a", "1")]), layer(&shop, &[Entry::File("b", "2")])];
    // Asked first, and wrong.
    let _good = offer(&cache, &shop);
    let wrong = Arc::new(Shop::default());
    for layer in &layers {
        let size = usize::try_from(layer.descriptor.size).unwrap();
        wrong.blobs.lock().insert(layer.descriptor.digest.clone(), vec![0; size].into());
    }
    let _wrong = offer(&cache, &wrong);
    let first = tree(&cache, &layers);
    let mut tasks = vec![spawn(async move { (0, read(&first, "b").await) })];
    // A fetch ends when all leave who wait for it: this one stays.
    while shop.reads() < 2 {
        tokio::task::yield_now().await;
    }
    for number in 1..100 {
        let tree = tree(&cache, &layers);
        let task = spawn(async move { (number, read(&tree, "b").await) });
        // Half of them leave, but the first, with whom the work would end.
        if number % 2 == 1 {
            tokio::task::yield_now().await;
            drop(task);
        } else {
            tasks.push(task);
        }
    }
    for task in tasks {
        assert_eq!(task.await.unwrap().1.as_deref(), Some("2"));
    }
    assert_eq!(shop.reads(), 2, "one read for each layer");
    let stored: Vec<u64> = cache.content().list().unwrap().iter().map(|info| info.size).collect();
    assert_eq!(stored.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_is_told() {
    let on = Fixture::new(true);
    let cache = on.open().await;
    let shop = Arc::new(Shop::default());
    let blob = layer(&shop, &[Entry::File("a", "1")]);
    let lost = tree(&cache, std::slice::from_ref(&blob));
    assert!(!lost.is_available());
    let error = lost.mount().await.err().expect("nobody offers it");
    assert!(error.is_lost_blob(), "{error}");
    // An image whose layer is another than it says.
    let wrong = LayerBlob { diff_id: Digest::sha256("other"), ..blob.clone() };
    let _offer = offer(&cache, &shop);
    let wrong = tree(&cache, &[wrong]);
    let error = wrong.mount().await.err().expect("wrong").to_string();
    assert!(error.contains("as its image says"), "{error}");
    assert_eq!(read(&lost, "a").await.as_deref(), Some("1"));
    cache.drain().await;
    let snapshots = cache.snapshotter().list().await.unwrap();
    assert_eq!(snapshots.len(), 1, "what failed leaves nothing: {snapshots:?}");
}

async fn change(
    cache: &CacheManager,
    parent: Option<&ImmutableRef>,
    change: impl FnOnce(&Path),
) -> ImmutableRef {
    let mutable = cache.create(parent, CreateOptions::default()).await.expect("create");
    change(mutable.mount_local().await.expect("mount").path());
    mutable.commit().await.expect("commit")
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_made_of_trees_and_trees_of_layers() {
    for overlay in [true, false] {
        let (on, other) = (Fixture::new(overlay), Fixture::new(true));
        let cache = on.open().await;
        let base = change(&cache, None, |root| {
            std::fs::create_dir(root.join("d")).unwrap();
            std::fs::write(root.join("d/gone"), "").unwrap();
            std::fs::write(root.join("d/kept"), "kept").unwrap();
        })
        .await;
        let top = change(&cache, Some(&base), |root| {
            std::fs::remove_file(root.join("d/gone")).unwrap();
            std::fs::write(root.join("d/new"), "new").unwrap();
        })
        .await;
        let side = change(&cache, None, |root| std::fs::write(root.join("side"), "side").unwrap()).await;
        let merged = cache.merge(&[top.clone(), side.clone()], CreateOptions::default()).await.unwrap();
        let diff = cache.diff(Some(&base), Some(&top), CreateOptions::default()).await.unwrap().unwrap();

        assert_eq!(merged.existing_layers().await.unwrap(), None);
        let remote = merged.layers(&LayerOptions::default()).await.unwrap();
        assert_eq!(remote.descriptors.len(), 3);
        assert_eq!(merged.existing_layers().await.unwrap().as_ref(), Some(&remote.descriptors));
        assert_eq!(top.existing_layers().await.unwrap().as_deref(), Some(&remote.descriptors[..2]));
        assert_eq!(merged.layer_infos().unwrap().len(), 3);
        assert_eq!(
            diff.layers(&LayerOptions::default()).await.unwrap().descriptors,
            remote.descriptors[1..2]
        );
        // Asked again, nothing is made again.
        let again = merged.layers(&LayerOptions::default()).await.unwrap();
        assert_eq!(again.descriptors, remote.descriptors);
        assert_eq!(cache.content().list().unwrap().len(), 3);

        let layers: Vec<LayerBlob> = remote
            .descriptors
            .iter()
            .map(|descriptor| LayerBlob {
                descriptor: descriptor.clone(),
                diff_id: descriptor.diff_id().expect("diff id"),
            })
            .collect();
        let elsewhere = other.open().await;
        let source = BlobSource { provider: remote.provider.clone(), progress: Progress::discard() };
        let _offer = elsewhere.offer(layers.iter().map(|layer| layer.descriptor.digest.clone()), source);
        let copy = tree(&elsewhere, &layers);
        for (path, content) in
            [("d/kept", Some("kept")), ("d/new", Some("new")), ("d/gone", None), ("side", Some("side"))]
        {
            assert_eq!(read(&copy, path).await.as_deref(), content, "{path} overlay {overlay}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_converted_once() {
    let on = Fixture::new(true);
    let cache = on.open().await;
    let tree = change(&cache, None, |root| std::fs::write(root.join("a"), "a".repeat(10_000)).unwrap()).await;
    let gzip = tree.layers(&LayerOptions::default()).await.unwrap().descriptors;
    let forced = |kind| LayerOptions {
        compression: Config { kind, level: None, force: true },
        ..LayerOptions::default()
    };
    let unforced = LayerOptions {
        compression: Config { kind: Compression::Zstd, level: None, force: false },
        ..LayerOptions::default()
    };
    assert_eq!(tree.layers(&unforced).await.unwrap().descriptors, gzip, "not forced, it stays");
    for (kind, media_type) in [
        (Compression::Zstd, media_type::OCI_LAYER_ZSTD),
        (Compression::Uncompressed, media_type::OCI_LAYER),
        (Compression::EStargz, media_type::OCI_LAYER_GZIP),
        (Compression::Gzip, media_type::OCI_LAYER_GZIP),
    ] {
        let converted = tree.layers(&forced(kind)).await.unwrap();
        assert_eq!(converted.descriptors[0].media_type, media_type);
        if kind != Compression::EStargz {
            assert_eq!(converted.descriptors[0].diff_id(), gzip[0].diff_id(), "{kind}");
        }
        read_all(&*converted.provider, &converted.descriptors[0]).await.unwrap();
        let count = cache.content().list().unwrap().len();
        assert_eq!(tree.layers(&forced(kind)).await.unwrap().descriptors, converted.descriptors);
        assert_eq!(cache.content().list().unwrap().len(), count, "{kind} is remembered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b_10_damaged_blobs_are_made_or_fetched_again() {
    let on = Fixture::new(true);
    let cache = on.open().await;
    let built = change(&cache, None, |root| std::fs::write(root.join("a"), "content").unwrap()).await;
    let first = built.layers(&LayerOptions::default()).await.unwrap().descriptors;
    let path = |digest: &Digest| on.dir.path().join("content/blobs/sha256").join(digest.encoded());
    for damage in [None, Some(&b""[..]), Some(b"short")] {
        match damage {
            None => std::fs::remove_file(path(&first[0].digest)).unwrap(),
            Some(bytes) => std::fs::write(path(&first[0].digest), bytes).unwrap(),
        }
        let zstd = LayerOptions {
            compression: Config {
                kind: Compression::Zstd,
                level: Some(i32::try_from(damage.map_or(1, |d| 2 + d.len())).unwrap()),
                force: true,
            },
            ..LayerOptions::default()
        };
        // Made of the files, since the blob that it would be converted from is lost.
        let made = built.layers(&zstd).await.unwrap();
        read_all(&*made.provider, &made.descriptors[0]).await.unwrap();
        let again = built
            .layers(&LayerOptions {
                compression: Config { force: true, ..Config::default() },
                ..LayerOptions::default()
            })
            .await
            .unwrap();
        assert_eq!(again.descriptors[0].digest, first[0].digest);
        read_all(&*again.provider, &again.descriptors[0]).await.unwrap();
    }

    let shop = Arc::new(Shop::default());
    let layers = [layer(&shop, &[Entry::File("b", "b".repeat(5000).as_str())])];
    let _offer = offer(&cache, &shop);
    let pulled = tree(&cache, &layers);
    assert!(read(&pulled, "b").await.is_some());
    std::fs::write(path(&layers[0].descriptor.digest), b"x").unwrap();
    let remote = pulled.layers(&LayerOptions::default()).await.unwrap();
    read_all(&*remote.provider, &remote.descriptors[0]).await.unwrap();
    assert_eq!(shop.reads(), 2, "fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn pinned_blobs_stay() {
    let on = Fixture::new(true);
    let cache = on.open().await;
    let content: Arc<dyn ContentStore> = cache.content().clone();
    let kept = contentutil::store_bytes(&content, &b"kept"[..]).await.unwrap();
    let pin = cache.pin(&kept.digest);
    let old = std::time::UNIX_EPOCH;
    let file = on.dir.path().join("content/blobs/sha256").join(kept.digest.encoded());
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    let none: [GcPolicy; 0] = [];
    cache.prune(&none, |_| {}).await.unwrap();
    assert!(content.info(&kept.digest).is_ok());
    drop(pin);
    cache.prune(&none, |_| {}).await.unwrap();
    assert!(matches!(content.info(&kept.digest), Err(contentutil::Error::NotFound(_))));
    assert!(matches!(cache.fetch(&Descriptor::of("x", b"kept")).await, Err(Error::Shared(_))));
}
