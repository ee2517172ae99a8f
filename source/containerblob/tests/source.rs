//! Blobs of clients and registries as trees of a real cache. Needs root.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_cache::{CacheManager, CacheOptions, ImmutableRef};
use buildkit_cache_metadata::MemoryStore as Metadata;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session::SessionGroup;
use buildkit_session_content::ContentService;
use buildkit_session_testutil::SessionPair;
use buildkit_source::{Error, Identifier, Source, SourceContext};
use buildkit_source_containerblob::{BlobRegistry, BlobSource, FoundBlob};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{ContentStore, Error as BlobError, Expected, MemoryStore};
use buildkit_util_progress::{Bus, Writer};
use buildkit_util_reference::Reference;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// Gives the same bytes for every blob.
struct Registry(Vec<&'static [u8]>, Option<u64>);

#[async_trait]
impl BlobRegistry for Registry {
    async fn open(
        &self,
        _: &SourceContext,
        name: &Reference,
        digest: &Digest,
    ) -> Result<FoundBlob, BlobError> {
        if name.path() == "none" {
            return Err(BlobError::NotFound(digest.clone()));
        }
        let chunks: Vec<_> = self.0.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        Ok(FoundBlob { size: self.1, stream: Box::pin(futures::stream::iter(chunks)) })
    }
}

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
        registry: Registry,
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
        let source = BlobSource::new(self.cache.clone(), Arc::new(registry));
        let instance = source.resolve(&identifier)?;
        let key = instance.cache_key(&cx, 0).await?;
        assert!(key.done && key.key.starts_with("sha256:"), "{key:?}");
        assert!(identifier.reference.ends_with(&key.pin));
        Ok(instance.snapshot(&cx).await?.expect("a tree"))
    }

    async fn layout(&self, digest: &Digest, attrs: &[(&str, &str)]) -> Result<ImmutableRef, Error> {
        let registry = Registry(Vec::new(), None);
        self.load(registry, "oci-layout+blob", format!("a/b@{digest}"), attrs).await
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
    let none =
        fixture.load(Registry(Vec::new(), None), "docker-image+blob", format!("a.b/none@{digest}"), &[]);
    assert_eq!(none.await.expect_err("is not there").kind(), Kind::NotFound);
    assert_eq!(fixture.left().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_gives_is_verified() {
    let fixture = Fixture::new().await;
    let digest = Digest::sha256("hello");
    let load = |registry| fixture.load(registry, "docker-image+blob", format!("a.b/c@{digest}"), &[]);
    for bad in [
        Registry(vec![b"hellx"], None),
        Registry(vec![b"hell"], Some(5)),
        Registry(vec![b"hello", b"!"], Some(5)),
        Registry(vec![b"hello"], Some(6)),
        Registry(vec![], None),
    ] {
        let error = load(bad).await.expect_err("is another blob");
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    }
    assert_eq!(fixture.left().await, (0, 0));
    let tree = load(Registry(vec![b"he", b"llo"], None)).await.expect("loads");
    let mount = tree.mount_local().await.expect("mounts");
    assert_eq!(std::fs::read(mount.path().join(digest.encoded())).expect("reads"), b"hello");
}
