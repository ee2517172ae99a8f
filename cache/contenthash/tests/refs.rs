//! Checksums of refs of a real cache. Needs root: snapshots have owners.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache::{CacheManager, CacheOptions, CreateOptions, ImmutableRef};
use buildkit_cache_contenthash::{ChecksumOptions, ContentHasher, Error, TreeUpdater};
use buildkit_cache_metadata::MemoryStore;
use buildkit_util_cachedigest::Digest;
use buildkit_util_fsutil_types::Stat;
use buildkit_util_system::Root;

struct Fixture {
    directory: tempfile::TempDir,
    cache: CacheManager,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let snapshots = directory.path().join("snapshots");
        let cache = CacheManager::open(CacheOptions {
            snapshotter: Arc::new(buildkit_snapshot_native::open(snapshots).expect("snapshots")),
            metadata: Arc::new(MemoryStore::new()),
            content: Arc::new(buildkit_util_contentutil::MemoryStore::default()),
            mount_root: directory.path().join("mounts"),
            root: directory.path().to_owned(),
            clock: SystemTime::now,
        })
        .await
        .expect("cache");
        Self { directory, cache }
    }

    async fn tree(&self, files: &[(&str, &str)]) -> ImmutableRef {
        let active = self.cache.create(None, CreateOptions::default()).await.expect("makes");
        let mount = active.mount_local().await.expect("mounts");
        for (path, content) in files {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directories");
            fs::write(path, content).expect("file");
        }
        drop(mount);
        active.commit().await.expect("commits")
    }
}

fn options() -> ChecksumOptions {
    ChecksumOptions::default()
}

#[tokio::test]
async fn equal_files_have_equal_digests() {
    let fixture = Fixture::new().await;
    let hasher = ContentHasher::default();
    let (a, b) = (fixture.tree(&[("d/f", "x"), ("a", "")]).await, fixture.tree(&[("d/f", "x")]).await);
    let digest = async |tree: &ImmutableRef, path| hasher.checksum(Some(tree), path, &options()).await;
    let of_file = digest(&a, "/d/f").await.expect("hashes");
    assert_eq!(of_file, digest(&b, "/d/f").await.expect("hashes"));
    assert_eq!(digest(&a, "/d").await.expect("hashes"), digest(&b, "/d").await.expect("hashes"));
    assert_ne!(digest(&a, "/").await.expect("hashes"), digest(&b, "/").await.expect("hashes"));
    let error = digest(&a, "/nope").await.expect_err("missing");
    assert_eq!(error.to_string(), "\"/nope\": not found");
    assert_eq!(hasher.checksum(None, "/", &options()).await.expect("empty"), Digest::sha256(b""));
    let error = hasher.checksum(None, "/f", &options()).await.expect_err("empty");
    assert_eq!(error.to_string(), "/f: no such file or directory");
}

#[tokio::test]
async fn what_was_learned_stays_with_the_ref() {
    let fixture = Fixture::new().await;
    let tree = fixture.tree(&[("f", "x")]).await;
    let first = ContentHasher::new(1);
    let digest = first.checksum(Some(&tree), "/f", &options()).await.expect("hashes");
    // Without its files another hasher can only know it from the ref.
    let path = tree.mount_local().await.expect("mounts").path().to_owned();
    fs::write(path.join("f"), "changed behind the back").expect("file");
    let second = ContentHasher::new(1);
    assert_eq!(second.checksum(Some(&tree), "/f", &options()).await.expect("known"), digest);
    // One tree is kept in memory; the others come back from their refs.
    for _ in 0..3 {
        let other = fixture.tree(&[("g", "y")]).await;
        second.checksum(Some(&other), "/g", &options()).await.expect("hashes");
    }
    assert_eq!(second.checksum(Some(&tree), "/f", &options()).await.expect("known"), digest);
    second.forget(tree.id(), &tree.metadata());
    assert_ne!(second.checksum(Some(&tree), "/f", &options()).await.expect("hashes"), digest);
    assert!(fixture.directory.path().exists());
}

#[tokio::test]
async fn damaged_records_are_hashed_again() {
    let fixture = Fixture::new().await;
    let tree = fixture.tree(&[("f", "x")]).await;
    let digest = ContentHasher::default().checksum(Some(&tree), "/f", &options()).await.expect("hashes");
    tree.metadata().set("buildkit.contenthash.v1", &b"\xff\xff"[..]).expect("sets");
    let again = ContentHasher::default().checksum(Some(&tree), "/f", &options()).await.expect("hashes");
    assert_eq!(again, digest);
}

#[tokio::test]
async fn changes_that_are_told_are_believed() {
    let fixture = Fixture::new().await;
    let tree = fixture.tree(&[]).await;
    let hasher = ContentHasher::default();
    let metadata = tree.metadata();
    let mut updater = TreeUpdater::new(hasher.tree(tree.id(), &metadata).await);
    let told = Digest::sha256("told");
    updater.add(&Stat { path: "f".to_owned(), ..Stat::default() }, &told);
    hasher.set_tree(tree.id(), &metadata, updater.finish()).await;
    assert_eq!(hasher.checksum(Some(&tree), "/f", &options()).await.expect("known"), told);
    let error = hasher.checksum(Some(&tree), "/g", &options()).await.expect_err("missing");
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    let later = ContentHasher::default();
    assert_eq!(later.checksum(Some(&tree), "/f", &options()).await.expect("stored"), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_side_by_side_agree() {
    let fixture = Fixture::new().await;
    let files: Vec<(String, String)> =
        (0..200).map(|at| (format!("d{}/f{at}", at % 7), at.to_string())).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, data)| (path.as_str(), data.as_str())).collect();
    let tree = fixture.tree(&files).await;
    let mount = tree.mount_local().await.expect("mounts");
    let root = Root::open(mount.path()).expect("root");
    let hasher = ContentHasher::default();
    let paths = ["/", "/d0", "/d1/f1", "/d2", "/", "/d3/f3"];
    let asked = paths.map(|path| {
        let (hasher, tree) = (hasher.clone(), tree.clone());
        buildkit_util_appcontext::spawn(async move {
            hasher.checksum(Some(&tree), path, &options()).await.expect("hashes")
        })
    });
    for (path, asked) in paths.into_iter().zip(asked) {
        let alone =
            buildkit_cache_contenthash::Tree::new().checksum(Some(&root), path, &options()).expect("hashes");
        assert_eq!(asked.await.expect("runs"), alone, "{path}");
    }
}
