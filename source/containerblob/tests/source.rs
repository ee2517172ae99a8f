//! Blobs of clients and registries as trees of a real cache. Needs root.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache::{CacheManager, CacheOptions, ImmutableRef};
use buildkit_cache_metadata::MemoryStore as Metadata;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session::SessionGroup;
use buildkit_session_content::ContentService;
use buildkit_session_testutil::SessionPair;
use buildkit_source::{Error, Identifier, Source, SourceContext};
use buildkit_source_containerblob::BlobSource;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{ContentStore, Expected, MemoryStore};
use buildkit_util_progress::{Bus, Writer};
use buildkit_util_resolver::{Registries, RegistryOptions};
use buildkit_util_testutil::{Image, Registry};
use tokio_util::sync::CancellationToken;

struct Fixture {
    state: tempfile::TempDir,
    cache: CacheManager,
    session: SessionPair,
    store: MemoryStore,
}

impl Fixture {
    async fn new() -> Self {
        let state = tempfile::tempdir().expect("temporary directory");
        let snapshotter = buildkit_snapshot_native::open(state.path().join("snapshots")).expect("opens");
        let cache = CacheManager::open(CacheOptions {
            snapshotter: Arc::new(snapshotter),
            metadata: Arc::new(Metadata::default()),
            content: Arc::new(MemoryStore::default()),
            mount_root: state.path().join("mounts"),
            root: state.path().to_owned(),
            clock: SystemTime::now,
        })
        .await
        .expect("opens");
        let store = MemoryStore::default();
        let stores =
            BTreeMap::from([("oci:mine".to_owned(), Arc::new(store.clone()) as Arc<dyn ContentStore>)]);
        let session = SessionPair::open(|server| {
            server.allow(ContentService::new(stores).service(), ContentService::METHODS);
        })
        .await;
        Self { state, cache, session, store }
    }

    fn add(&self, content: &[u8]) -> Digest {
        let mut ingester = self.store.ingest(Expected::default()).expect("ingest");
        ingester.write_all(content).expect("write");
        ingester.commit().expect("commit").digest
    }

    async fn load(
        &self,
        scheme: &str,
        reference: String,
        attrs: &[(&str, &str)],
    ) -> Result<ImmutableRef, Error> {
        let identifier = Identifier {
            scheme: scheme.to_owned(),
            reference,
            attrs: attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            platform: None,
        };
        let cx = SourceContext {
            sessions: self.session.manager().clone(),
            group: SessionGroup::new([self.session.caller().id().to_owned()]),
            progress: Writer::for_bus(Digest::sha256("x"), Bus::new()),
            cancelled: CancellationToken::new(),
        };
        let options = RegistryOptions::new(self.session.manager().clone(), "tests");
        let source = BlobSource::new(self.cache.clone(), Registries::new(options));
        let instance = source.resolve(&identifier)?;
        let key = instance.cache_key(&cx, 0).await?;
        assert!(key.done && key.key.starts_with("sha256:"), "{key:?}");
        assert!(identifier.reference.ends_with(&key.pin));
        Ok(instance.snapshot(&cx).await?.expect("a tree"))
    }

    async fn layout(&self, digest: &Digest, attrs: &[(&str, &str)]) -> Result<ImmutableRef, Error> {
        self.load("oci-layout+blob", format!("a/b@{digest}"), attrs).await
    }

    /// Mounts and records that are left.
    async fn left(&self) -> (usize, usize) {
        self.cache.drain().await;
        let mounts = std::fs::read_dir(self.state.path().join("mounts")).map_or(0, Iterator::count);
        (mounts, self.cache.disk_usage::<&str>(&[], None).await.expect("lists").len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_a_client_becomes_a_file() {
    let fixture = Fixture::new().await;
    let content = vec![7; (3 << 20) + 5];
    let digest = fixture.add(&content);
    let session = fixture.session.caller().id();
    let attrs = [
        ("oci.store", "mine"),
        ("oci.session", session),
        ("http.filename", "../data.bin"),
        ("http.perm", "0640"),
        ("http.uid", "12"),
        ("http.gid", "34"),
    ];
    let tree = fixture.layout(&digest, &attrs).await.expect("loads");
    let mount = tree.mount_local().await.expect("mounts");
    let path = mount.path().join("data.bin");
    assert_eq!(std::fs::read(&path).expect("reads"), content);
    let meta = std::fs::metadata(&path).expect("is there");
    assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 12, 34));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (0, 0));
    assert_eq!(std::fs::read_dir(mount.path()).expect("reads").count(), 1);
    drop(mount);

    // Of any session of the build, without a name.
    let tree = fixture.layout(&digest, &[("oci.store", "mine")]).await.expect("loads");
    let mount = tree.mount_local().await.expect("mounts");
    let meta = std::fs::metadata(mount.path().join(digest.encoded())).expect("is there");
    assert_eq!((meta.permissions().mode() & 0o7777, meta.len()), (0o600, content.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_leaves_nothing() {
    let fixture = Fixture::new().await;
    let digest = Digest::sha256("absent");
    let error = fixture.layout(&digest, &[("oci.store", "mine")]).await.expect_err("is not there");
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    let error = fixture.layout(&digest, &[("oci.store", "other")]).await.expect_err("no store");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("unknown store oci:other"), "{error}");
    let attrs = [("oci.store", "mine"), ("oci.session", "nobody")];
    let error = fixture.layout(&digest, &attrs).await.expect_err("no session");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let registry = Registry::start();
    let none = fixture.load("docker-image+blob", format!("{}/none@{digest}", registry.host()), &[]);
    assert_eq!(none.await.expect_err("is not there").kind(), Kind::NotFound);
    assert_eq!(fixture.left().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_gives_is_verified() {
    let fixture = Fixture::new().await;
    let registry = Registry::start();
    let image = Image::busybox();
    registry.push(&image, "a/b", "v1");
    let manifest = Digest::parse(image.digest()).expect("a digest");
    let config = image.document(image.digest())["config"]["digest"].as_str().map(Digest::parse);
    let config = config.expect("a configuration").expect("a digest");
    let load = async |digest: &Digest| {
        let tree =
            fixture.load("docker-image+blob", format!("{}/a/b@{digest}", registry.host()), &[]).await?;
        let mount = tree.mount_local().await.expect("mounts");
        Ok::<_, Error>(std::fs::read(mount.path().join(digest.encoded())).expect("reads"))
    };
    for digest in [&config, &manifest] {
        assert_eq!(load(digest).await.expect("loads"), image.blob(digest.as_str()), "{digest}");
    }
    fixture.cache.drain().await;
    let (mounts, records) = fixture.left().await;

    let hex = config.encoded();
    let file = registry.data().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data");
    let good = std::fs::read(&file).expect("reads");
    let mut bad = good.clone();
    bad[3] ^= 1;
    for bad in [&bad[..], &good[1..], b""] {
        std::fs::write(&file, bad).expect("writes");
        let error = load(&config).await.expect_err("is another blob");
        assert_ne!(error.kind(), Kind::NotFound, "{error}");
        assert!(error.to_string().starts_with("failed to load docker-image+blob://127.0.0.1:"), "{error}");
    }
    assert_eq!(fixture.left().await, (mounts, records));
}
