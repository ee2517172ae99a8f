//! Directories of a client through a session into a real cache. Needs root.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache::{CacheManager, CacheOptions, ImmutableRef};
use buildkit_cache_contenthash::{ChecksumOptions, ContentHasher};
use buildkit_cache_metadata::MemoryStore;
use buildkit_session::{SessionGroup, SessionManager, SessionServer};
use buildkit_session_filesync::FsSyncProvider;
use buildkit_source::{Error, Identifier, Source, SourceContext};
use buildkit_source_local::LocalSource;
use buildkit_util_appcontext::{TaskGuard, spawn};
use buildkit_util_fsutil::{DirFs, FileSystem};
use buildkit_util_progress::{Bus, Writer};
use tokio_util::sync::CancellationToken;

struct Fixture {
    _state: tempfile::TempDir,
    context: tempfile::TempDir,
    cache: CacheManager,
    checksums: ContentHasher,
    source: LocalSource,
    sessions: SessionManager,
    group: SessionGroup,
    bus: Bus,
    _tasks: Vec<TaskGuard<()>>,
}

fn write(dir: &Path, path: &str, content: &str) {
    let at = dir.join(path);
    std::fs::create_dir_all(at.parent().expect("is inside")).expect("directory");
    std::fs::write(at, content).expect("file");
}

impl Fixture {
    async fn new() -> Self {
        let state = tempfile::tempdir().expect("temporary directory");
        let context = tempfile::tempdir().expect("temporary directory");
        let snapshotter = buildkit_snapshot_native::open(state.path().join("snapshots")).expect("opens");
        let cache = CacheManager::open(CacheOptions {
            snapshotter: Arc::new(snapshotter),
            metadata: Arc::new(MemoryStore::default()),
            content: Arc::new(buildkit_util_contentutil::MemoryStore::default()),
            mount_root: state.path().join("mounts"),
            root: state.path().to_owned(),
            clock: SystemTime::now,
        })
        .await
        .expect("opens");
        let shared: Arc<dyn FileSystem> = Arc::new(DirFs::open(context.path()).expect("opens"));
        let mut server = SessionServer::new("key").await;
        let provider = FsSyncProvider::new(BTreeMap::from([("context".to_owned(), shared)]));
        server.allow(provider.service(), FsSyncProvider::METHODS);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (group, headers) = (SessionGroup::new([server.id().to_owned()]), server.headers());
        let sessions = SessionManager::new();
        let managing = sessions.clone();
        let checksums = ContentHasher::new(4);
        Self {
            _state: state,
            context,
            source: LocalSource::new(cache.clone(), checksums.clone()),
            cache,
            checksums,
            sessions,
            group,
            bus: Bus::new(),
            _tasks: vec![
                spawn(async move { drop(server.serve(theirs).await) }),
                spawn(async move { drop(managing.serve(ours, headers).await) }),
            ],
        }
    }

    async fn load(&self, name: &str, attrs: &[(&str, &str)]) -> Result<ImmutableRef, Error> {
        let identifier = Identifier {
            platform: None,
            scheme: "local".to_owned(),
            reference: name.to_owned(),
            attrs: attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        let vertex = buildkit_util_cachedigest::Digest::sha256(name);
        let cx = SourceContext {
            sessions: self.sessions.clone(),
            group: self.group.clone(),
            progress: Writer::for_bus(vertex, self.bus.clone()),
            cancelled: CancellationToken::new(),
        };
        let instance = self.source.resolve(&identifier)?;
        let key = instance.cache_key(&cx, 0).await?;
        assert!(key.done && key.key.starts_with(&format!("session:{name}:sha256:")), "{key:?}");
        Ok(instance.snapshot(&cx).await?.expect("a tree"))
    }

    /// The digest of everything. What is known of the entries is checked against a look at them. (The
    /// root's own attributes are not transferred, so its digest is one that no look gives.)
    async fn digest(&self, tree: &ImmutableRef) -> String {
        let options = ChecksumOptions::default();
        let all = self.checksums.checksum(Some(tree), "/", &options).await.expect("hashes");
        let mut known = BTreeMap::new();
        for name in names(tree).await {
            let digest = self.checksums.checksum(Some(tree), &format!("/{name}"), &options).await;
            known.insert(name, digest.expect("hashes"));
        }
        let fresh = ContentHasher::new(1);
        fresh.forget(tree.id(), &tree.metadata());
        for (name, digest) in known {
            let scanned = fresh.checksum(Some(tree), &format!("/{name}"), &options).await;
            assert_eq!(scanned.expect("hashes"), digest, "{name}");
        }
        all.to_string()
    }
}

async fn names(tree: &ImmutableRef) -> Vec<String> {
    let mount = tree.mount_local().await.expect("mounts");
    let fs = DirFs::open(mount.path()).expect("opens");
    let mut names = Vec::new();
    buildkit_util_fsutil::walk_all(&fs, |stat| {
        names.push(stat.path);
        Ok(())
    })
    .expect("walks");
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_from_earlier_transfers() {
    let fixture = Fixture::new().await;
    let context = fixture.context.path();
    write(context, "a/x", "1");
    write(context, "b", "2");
    let first = fixture.load("context", &[]).await.expect("loads");
    assert_eq!(names(&first).await, ["a", "a/x", "b"]);
    let digest = fixture.digest(&first).await;
    // While the first is in use, another record is made.
    let second = fixture.load("context", &[]).await.expect("loads");
    assert_ne!(first.id(), second.id());
    assert_eq!(fixture.digest(&second).await, digest);
    drop((first, second));
    fixture.cache.drain().await;
    let records = fixture.cache.disk_usage::<&str>(&[], None).await.expect("lists").len();
    write(context, "a/x", "changed");
    write(context, "c/new", "3");
    std::fs::remove_file(context.join("b")).expect("removes");
    let third = fixture.load("context", &[]).await.expect("loads");
    assert_eq!(names(&third).await, ["a", "a/x", "c", "c/new"]);
    let changed = fixture.digest(&third).await;
    assert_ne!(changed, digest);
    drop(third);
    fixture.cache.drain().await;
    let after = fixture.cache.disk_usage::<&str>(&[], None).await.expect("lists").len();
    assert!(after <= records, "{after} records after {records}");
    let same = fixture.load("context", &[]).await.expect("loads");
    assert_eq!(fixture.digest(&same).await, changed);
    let (status, _) = fixture.bus.subscribe().take();
    let statuses: Vec<_> = status.statuses.iter().map(|status| status.id.as_str()).collect();
    assert!(statuses.contains(&"transferring context:"), "{statuses:?}");
    assert!(status.statuses.iter().any(|status| status.completed.is_some() && status.current > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_count() {
    let fixture = Fixture::new().await;
    let context = fixture.context.path();
    for path in ["a/x", "a/y.log", "b", "c"] {
        write(context, path, path);
    }
    std::os::unix::fs::symlink("c", context.join("link")).expect("link");
    for (attrs, expect) in [
        (&[("local.includepattern", r#"["a"]"#)][..], &["a", "a/x", "a/y.log"][..]),
        (&[("local.excludepatterns", r#"["**/*.log","b"]"#)], &["a", "a/x", "c", "link"]),
        (&[("local.followpaths", r#"["link"]"#)], &["c", "link"]),
        (&[("local.differ", "none")], &["a", "a/x", "a/y.log", "b", "c", "link"]),
        (
            &[("local.metadatatransfer", "true"), ("local.metadatatransferexclude", r#"["a/x"]"#)],
            &[".fsutil-metadata", "a", "a/x"],
        ),
    ] {
        let tree = fixture.load("context", attrs).await.expect("loads");
        assert_eq!(names(&tree).await, expect, "{attrs:?}");
        fixture.digest(&tree).await;
        drop(tree);
        fixture.cache.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_shared() {
    let fixture = Fixture::new().await;
    let error = fixture.load("etc", &[]).await.expect_err("is not shared");
    assert_eq!(error.to_string(), "rpc error: code = NotFound desc = no access allowed to dir \"etc\"");
    let error = fixture.load("context", &[("local.excludepatterns", r#"["["]"#)]).await;
    let error = error.expect_err("is malformed").to_string();
    assert!(error.contains("invalid excludepatterns: [[]: syntax error in pattern"), "{error}");
    // The record of a transfer that failed is used again.
    write(fixture.context.path(), "x", "1");
    let tree = fixture.load("context", &[]).await.expect("loads");
    assert_eq!(names(&tree).await, ["x"]);
    fixture.digest(&tree).await;
}
