//! Images through a session to a client, as archives and into its store. The archives are those that
//! buildkitd 73ed6825c sent for the same results. Needs root.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use buildkit_cache::{CacheManager, CacheOptions, ImmutableRef};
use buildkit_exporter::{CompatibilityVersion, Error, ExportContext, ExportResult, Exporter};
use buildkit_exporter_containerimage::ImageWriter;
use buildkit_exporter_oci::{OciExporter, Variant};
use buildkit_session::{SessionManager, SessionServer};
use buildkit_session_content::ContentService;
use buildkit_session_filesync::{FileOutput, FsSyncTarget, Target};
use buildkit_solver_result::{BuildResult, Refs};
use buildkit_util_appcontext::{TaskGuard, spawn};
use buildkit_util_contentutil::{ContentStore, MemoryStore};
use buildkit_util_ocispec::Platform;
use buildkit_util_progress::{Event, Writer};
use tokio_util::sync::CancellationToken;

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

struct Fixture {
    writer: ImageWriter,
    sessions: SessionManager,
    session_id: String,
    /// What the client has of the archive.
    archive: Arc<Mutex<Vec<u8>>>,
    /// The client's store.
    store: MemoryStore,
    _state: tempfile::TempDir,
    _tasks: [TaskGuard<()>; 2],
}

impl Fixture {
    async fn new() -> Self {
        let state = tempfile::tempdir().expect("temporary directory");
        let snapshotter = buildkit_snapshot_native::open(state.path().join("snapshots")).expect("opens");
        let cache = CacheManager::open(CacheOptions {
            snapshotter: Arc::new(snapshotter),
            metadata: Arc::new(buildkit_cache_metadata::MemoryStore::default()),
            content: Arc::new(MemoryStore::default()),
            mount_root: state.path().join("mounts"),
            root: state.path().to_owned(),
            clock: SystemTime::now,
        })
        .await
        .expect("opens");
        let (archive, store) = (Arc::<Mutex<Vec<u8>>>::default(), MemoryStore::default());
        let sink = archive.clone();
        let open = move |_| Ok(Some(Box::new(Archive(Vec::new(), sink.clone())) as Box<dyn FileOutput>));
        let mut server = SessionServer::new("").await;
        let targets = BTreeMap::from([(3, Target::File(Arc::new(open)))]);
        server.allow(FsSyncTarget::new(targets), FsSyncTarget::METHODS);
        let stores =
            BTreeMap::from([("export".to_owned(), Arc::new(store.clone()) as Arc<dyn ContentStore>)]);
        server.allow(ContentService::new(stores).service(), ContentService::METHODS);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (session_id, headers) = (server.id().to_owned(), server.headers());
        let sessions = SessionManager::new();
        let managing = sessions.clone();
        Self {
            writer: ImageWriter::new(cache, Platform::new("linux", "amd64")),
            sessions,
            session_id,
            archive,
            store,
            _state: state,
            _tasks: [
                spawn(async move { drop(server.serve(theirs).await) }),
                spawn(async move { drop(managing.serve(ours, headers).await) }),
            ],
        }
    }

    /// The answer and the parts of the progress.
    async fn export(
        &self,
        variant: Variant,
        compatibility: CompatibilityVersion,
        attrs: &[(&str, &str)],
        result: &ExportResult,
    ) -> Result<(BTreeMap<String, String>, Vec<String>), Error> {
        let parts = Arc::new(Mutex::new(Vec::new()));
        let seen = parts.clone();
        let sink = move |event| {
            if let Event::Status(status) = event
                && status.completed.is_some()
            {
                seen.lock().expect("not poisoned").push(status.id);
            }
        };
        let cx = ExportContext {
            sessions: self.sessions.clone(),
            session_id: self.session_id.clone(),
            progress: Writer::new(Writer::discard().vertex().clone(), Arc::new(sink)),
            cancelled: CancellationToken::new(),
            compatibility,
        };
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let exporter = OciExporter::new(self.writer.clone(), variant);
        let exported = exporter.resolve(3, &attrs)?.export(&cx, result).await?;
        let parts = parts.lock().expect("not poisoned").clone();
        Ok((exported.response, parts))
    }
}

fn two_platforms() -> ExportResult {
    let json = r#"{"Platforms":[
        {"ID":"linux/arm64","Platform":{"architecture":"arm64","os":"linux","variant":"v8"}},
        {"ID":"linux/amd64","Platform":{"architecture":"amd64","os":"linux"}}]}"#;
    let refs = ["linux/arm64", "linux/amd64"].map(|id| (id.to_owned(), None::<ImmutableRef>));
    BuildResult {
        refs: Refs::Many(refs.into()),
        metadata: BTreeMap::from([("refs.platforms".to_owned(), json.into())]),
        ..BuildResult::default()
    }
}

const INDEX: &[(&str, &str)] = &[
    ("name", "n:1"),
    ("source-date-epoch", "1700000000"),
    ("annotation-index-descriptor.j", "2"),
    ("annotation[linux/arm64].a", "b"),
];

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_those_of_upstream() {
    let fixture = Fixture::new().await;
    let digest = format!("sha256:{}", "ab".repeat(32));
    let names = format!("x,localhost:5000/y/z:t,docker.io/a/b:v@{digest},c@{digest}");
    let (response, parts) = fixture
        .export(
            Variant::Docker,
            CompatibilityVersion::V20,
            &[("name", &names), ("source-date-epoch", "5")],
            &BuildResult::single(None),
        )
        .await
        .expect("exports");
    assert!(*fixture.archive.lock().expect("not poisoned") == include_bytes!("data/docker.tar"));
    assert_eq!(
        response["image.name"],
        format!(
            "docker.io/library/x:latest,localhost:5000/y/z:t,docker.io/a/b:v@{digest},docker.io/library/c@{digest}"
        )
    );
    let manifest = "sha256:3a58ad119f0dae830e39299dd9d94100e3a764665fba8810f9a873d3ac716aec";
    let config = "sha256:471a1b8817eefb6569017c1a76f288e0d4e5c8476eb199485c469d0b033168bf";
    assert_eq!(response["containerimage.digest"], manifest);
    assert_eq!(response["containerimage.config.digest"], config);
    assert_eq!(
        response["containerimage.descriptor"],
        "eyJtZWRpYVR5cGUiOiJhcHBsaWNhdGlvbi92bmQuZG9ja2VyLmRpc3RyaWJ1dGlvbi5tYW5pZmVzdC52Mitqc29uIiwiZGlnZXN0Ijoic2hhMjU2OjNhNThhZDExOWYwZGFlODMwZTM5Mjk5ZGQ5ZDk0MTAwZTNhNzY0NjY1ZmJhODgxMGY5YTg3M2QzYWM3MTZhZWMiLCJzaXplIjozMDQsImFubm90YXRpb25zIjp7Im9yZy5vcGVuY29udGFpbmVycy5pbWFnZS5jcmVhdGVkIjoiMTk3MC0wMS0wMVQwMDowMDowNVoifSwicGxhdGZvcm0iOnsiYXJjaGl0ZWN0dXJlIjoiYW1kNjQiLCJvcyI6ImxpbnV4In19"
    );
    let expect = [
        "exporting layers".to_owned(),
        format!("exporting manifest {manifest}"),
        format!("exporting config {config}"),
        "sending tarball".to_owned(),
    ];
    assert_eq!(parts, expect);

    let (response, _) = fixture
        .export(Variant::Oci, CompatibilityVersion::V30, INDEX, &two_platforms())
        .await
        .expect("exports");
    assert!(*fixture.archive.lock().expect("not poisoned") == include_bytes!("data/index.tar"));
    assert_eq!(response["image.name"], "docker.io/library/n:1");
    assert!(!response.contains_key("containerimage.config.digest"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_are_filled() {
    let fixture = Fixture::new().await;
    let attrs: Vec<_> = INDEX.iter().copied().chain([("tar", "false")]).collect();
    let (response, _) = fixture
        .export(Variant::Oci, CompatibilityVersion::V30, &attrs, &two_platforms())
        .await
        .expect("exports");
    let index = "sha256:c250c546ff93b8b2b6c37a90e7248de0cd445d7c38e83fc6d8a01b6c7fb6940d";
    assert_eq!(response["containerimage.digest"], index);
    // The index, a manifest for each platform and the configuration of scratch.
    let stored = fixture.store.list().expect("lists");
    assert_eq!(stored.len(), 4);
    assert!(stored.iter().any(|blob| blob.digest.as_str() == index));
    assert!(fixture.archive.lock().expect("not poisoned").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_of_what_makes_no_sense() {
    let fixture = Fixture::new().await;
    let scratch = BuildResult::single(None);
    for (variant, attrs, result, text) in [
        (
            Variant::Docker,
            &[][..],
            &two_platforms(),
            "docker exporter does not currently support exporting manifest lists",
        ),
        (
            Variant::Oci,
            &[("compression", "zstd")],
            &scratch,
            "unsupported compatibility-version 10 feature oci exporter compression=zstd",
        ),
        (
            Variant::Docker,
            &[("tar", "maybe")],
            &scratch,
            "non-bool value specified for tar: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            Variant::Oci,
            &[("annotation-index.a", "b")],
            &scratch,
            "index annotations not supported for single platform export",
        ),
        (Variant::Oci, &[("name", "a b")], &scratch, "failed to parse a b: invalid reference format"),
    ] {
        let error = fixture.export(variant, CompatibilityVersion::V10, attrs, result).await.expect_err(text);
        assert_eq!(error.to_string(), text);
    }
    assert!(fixture.archive.lock().expect("not poisoned").is_empty());
    assert!(fixture.store.list().expect("lists").is_empty());
}
