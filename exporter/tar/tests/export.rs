//! Results through a session to a client, as files and as a tarball. Needs root.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use buildkit_cache::{CacheManager, CacheOptions, CreateOptions, ImmutableRef};
use buildkit_cache_metadata::MemoryStore;
use buildkit_exporter::{CompatibilityVersion, Error, ExportContext, ExportResult, Exporter};
use buildkit_exporter_local::LocalExporter;
use buildkit_exporter_tar::TarExporter;
use buildkit_session::{SessionManager, SessionServer};
use buildkit_session_filesync::{FileOutput, FsSyncTarget, Target};
use buildkit_solver_result::{BuildResult, Refs};
use buildkit_util_appcontext::{TaskGuard, spawn};
use buildkit_util_progress::Writer;
use tokio_util::sync::CancellationToken;

struct Fixture {
    state: tempfile::TempDir,
    cache: CacheManager,
    sessions: SessionManager,
    session_id: String,
    archive: Arc<Mutex<Vec<u8>>>,
    _tasks: [TaskGuard<()>; 2],
}

struct Archive(Vec<u8>, Arc<Mutex<Vec<u8>>>);

impl io::Write for Archive {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileOutput for Archive {
    fn finish(self: Box<Self>) -> io::Result<()> {
        *self.1.lock().expect("not poisoned") = self.0;
        Ok(())
    }
}

impl Fixture {
    async fn new() -> Self {
        let state = tempfile::tempdir().expect("temporary directory");
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
        let archive: Arc<Mutex<Vec<u8>>> = Arc::default();
        let sink = archive.clone();
        let open = move |_| Ok(Some(Box::new(Archive(Vec::new(), sink.clone())) as Box<dyn FileOutput>));
        let dir = |name: &str, delete| Target::Dir { path: state.path().join(name), delete };
        let targets = BTreeMap::from([
            (0, dir("out", false)),
            (1, dir("mirror", true)),
            (2, Target::File(Arc::new(open))),
        ]);
        let mut server = SessionServer::new("").await;
        server.allow(FsSyncTarget::new(targets), FsSyncTarget::METHODS);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (session_id, headers) = (server.id().to_owned(), server.headers());
        let sessions = SessionManager::new();
        let managing = sessions.clone();
        Self {
            state,
            cache,
            sessions,
            session_id,
            archive,
            _tasks: [
                spawn(async move { drop(server.serve(theirs).await) }),
                spawn(async move { drop(managing.serve(ours, headers).await) }),
            ],
        }
    }

    async fn tree(&self, files: &[&str]) -> ImmutableRef {
        let tree = self.cache.create(None, CreateOptions::default()).await.expect("creates");
        let mount = tree.mount_local().await.expect("mounts");
        for file in files {
            let at = mount.path().join(file);
            std::fs::create_dir_all(at.parent().expect("is inside")).expect("directory");
            std::fs::write(at, file).expect("file");
        }
        drop(mount);
        tree.commit().await.expect("commits")
    }

    async fn export(
        &self,
        exporter: &dyn Exporter,
        index: usize,
        attrs: &[(&str, &str)],
        result: &ExportResult,
    ) -> Result<(), Error> {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let cx = ExportContext {
            sessions: self.sessions.clone(),
            session_id: self.session_id.clone(),
            progress: Writer::discard(),
            cancelled: CancellationToken::new(),
            compatibility: CompatibilityVersion::default(),
        };
        exporter.resolve(index, &attrs.collect())?.export(&cx, result).await.map(drop)
    }

    fn listing(&self, dir: &str) -> Vec<String> {
        let root = self.state.path().join(dir);
        let mut found = Vec::new();
        let mut todo = vec![root.clone()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).expect("reads") {
                let path = entry.expect("reads").path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    found.push(path.strip_prefix(&root).expect("is inside").display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

fn platforms(trees: Vec<(&str, Option<ImmutableRef>)>) -> ExportResult {
    let entries: Vec<_> = trees
        .iter()
        .map(|(id, _)| format!(r#"{{"ID":"{id}","Platform":{{"architecture":"x","os":"linux"}}}}"#))
        .collect();
    let json = format!(r#"{{"Platforms":[{}]}}"#, entries.join(","));
    let refs = trees.into_iter().map(|(id, tree)| (id.to_owned(), tree)).collect();
    BuildResult {
        refs: Refs::Many(refs),
        metadata: BTreeMap::from([("refs.platforms".to_owned(), json.into())]),
        ..BuildResult::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories() {
    let fixture = Fixture::new().await;
    let local = LocalExporter::new();
    let one = BuildResult::single(Some(fixture.tree(&["d/a", "b"]).await));
    fixture.export(&local, 0, &[("source-date-epoch", "86400")], &one).await.expect("exports");
    assert_eq!(fixture.listing("out"), ["b", "d/a"]);
    for path in ["out/b", "out/d"] {
        let time = Path::new(fixture.state.path()).join(path).metadata().expect("is there").modified();
        let since = time.expect("has a time").duration_since(SystemTime::UNIX_EPOCH).expect("later");
        assert_eq!(since.as_secs(), 86400, "{path}");
    }
    let both = platforms(vec![
        ("linux/amd64", Some(fixture.tree(&["x", "amd"]).await)),
        ("linux/arm64", Some(fixture.tree(&["x", "arm"]).await)),
        ("empty", None),
    ]);
    fixture.export(&local, 1, &[("mode", "delete")], &one).await.expect("exports");
    fixture.export(&local, 1, &[("mode", "delete")], &both).await.expect("exports");
    assert_eq!(
        fixture.listing("mirror"),
        ["linux_amd64/amd", "linux_amd64/x", "linux_arm64/arm", "linux_arm64/x"]
    );
    let error = fixture.export(&local, 0, &[("platform-split", "false")], &both).await;
    assert_eq!(
        error.expect_err("both have x").to_string(),
        "cannot overwrite x from linux/amd64 with linux/arm64 when split option is disabled"
    );
    fixture.export(&local, 0, &[("platform-split", "true")], &one).await.expect("exports");
    assert!(fixture.listing("out").iter().any(|path| path.starts_with("linux_") && path.ends_with("/d/a")));
    let mut unnamed = both.clone();
    unnamed.metadata.clear();
    let error = fixture.export(&local, 0, &[], &unnamed).await.expect_err("has no platforms");
    assert_eq!(error.to_string(), "unable to export multiple refs, missing platforms mapping");
    fixture.export(&local, 1, &[("mode", "delete")], &BuildResult::single(None)).await.expect("exports");
    assert!(fixture.listing("mirror").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tarballs() {
    let fixture = Fixture::new().await;
    let exporter = TarExporter::new();
    let long = format!("{}/{}", "d".repeat(150), "é".repeat(60));
    let one = BuildResult::single(Some(fixture.tree(&["d/a", "b", &long]).await));
    fixture.export(&exporter, 2, &[("source-date-epoch", "7")], &one).await.expect("exports");
    let read = |data: &[u8]| -> Vec<(String, String, u64)> {
        let mut archive = tar::Archive::new(data);
        let mut found = Vec::new();
        for entry in archive.entries().expect("is an archive") {
            let mut entry = entry.expect("is an entry");
            let path = entry.path().expect("has a path").display().to_string();
            let time = entry.header().mtime().expect("has a time");
            let mut content = String::new();
            io::Read::read_to_string(&mut entry, &mut content).expect("reads");
            found.push((path, content, time));
        }
        found
    };
    let found = read(&fixture.archive.lock().expect("not poisoned"));
    let entry = |path: &str, content: &str| (path.to_owned(), content.to_owned(), 7);
    let dir = format!("{}/", "d".repeat(150));
    assert_eq!(
        found,
        [entry("b", "b"), entry("d/", ""), entry("d/a", "d/a"), entry(&dir, ""), entry(&long, &long)]
    );
    let both = platforms(vec![
        ("linux/arm64", Some(fixture.tree(&["x"]).await)),
        ("linux/amd64", Some(fixture.tree(&["x"]).await)),
    ]);
    fixture.export(&exporter, 2, &[], &both).await.expect("exports");
    let found = read(&fixture.archive.lock().expect("not poisoned"));
    let paths: Vec<_> = found.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(paths, ["linux_amd64/", "linux_amd64/x", "linux_arm64/", "linux_arm64/x"]);
}
