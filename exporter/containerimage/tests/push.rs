//! Images of trees, pushed to a real registry. Needs root.

use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache::{CacheManager, CacheOptions, CreateOptions, ImmutableRef};
use buildkit_exporter::{CompatibilityVersion, Error, ExportContext, ExportResult, Exported, Exporter as _};
use buildkit_exporter_containerimage::{ImageExporter, ImageExporterOptions};
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_solver_result::BuildResult;
use buildkit_util_contentutil::MemoryStore;
use buildkit_util_ocispec::{Document, Image, Platform, media_type};
use buildkit_util_progress::Writer;
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries, RegistryOptions, Repository};
use buildkit_util_testutil::Registry;
use tokio_util::sync::CancellationToken;

struct Fixture {
    cache: CacheManager,
    sessions: SessionManager,
    registries: Registries,
    _state: tempfile::TempDir,
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
        let sessions = SessionManager::new();
        let registries = Registries::new(RegistryOptions::new(sessions.clone(), "test"));
        Self { cache, sessions, registries, _state: state }
    }

    async fn tree(&self, parent: Option<&ImmutableRef>, file: &str) -> ImmutableRef {
        let tree = self.cache.create(parent, CreateOptions::default()).await.expect("creates");
        let mount = tree.mount_local().await.expect("mounts");
        std::fs::write(mount.path().join(file), file).expect("file");
        drop(mount);
        tree.metadata().set_description(&format!("write {file}")).expect("describes");
        tree.commit().await.expect("commits")
    }

    fn context(&self) -> ExportContext {
        ExportContext {
            sessions: self.sessions.clone(),
            session_id: String::new(),
            progress: Writer::discard(),
            cancelled: CancellationToken::new(),
            compatibility: CompatibilityVersion::default(),
        }
    }

    async fn export(&self, attrs: &[(&str, &str)], result: &ExportResult) -> Result<Exported, Error> {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let exporter = ImageExporter::new(ImageExporterOptions {
            cache: self.cache.clone(),
            default_platform: Platform::new("linux", "amd64"),
            registries: self.registries.clone(),
        });
        exporter.resolve(0, &attrs)?.export(&self.context(), result).await
    }

    fn repository(&self, name: &str) -> Repository {
        let name = Reference::parse(name).expect("a name");
        self.registries.repository(&name, &SessionGroup::default(), Access::Pull, false)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pushed_at_last() {
    let (fixture, registry) = (Fixture::new().await, Registry::start());
    let base = fixture.tree(None, "a").await;
    let result = BuildResult::single(Some(fixture.tree(Some(&base), "b").await));
    let (first, second) = (format!("{}/x:1", registry.host()), format!("{}/y", registry.host()));
    let attrs = [("name", format!("{first},{second}")), ("push", String::new())];
    let attrs: Vec<_> = attrs.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let exported = fixture.export(&attrs, &result).await.expect("exports");
    // Another exporter may fail yet.
    fixture.repository(&first).resolve().await.expect_err("is not there");
    let digest = exported.response["containerimage.digest"].clone();
    let finalize = exported.finalize.expect("pushes");
    finalize.finalize(&fixture.context()).await.expect("pushes");
    for name in [&first, &format!("{second}:latest")] {
        let repository = fixture.repository(name);
        let found = repository.resolve().await.expect("is there");
        assert_eq!(found.descriptor.digest.as_str(), digest, "{name}");
        let bytes = repository.manifest(&found.descriptor).await.expect("is read");
        let Ok(Document::Manifest(manifest)) = Document::parse(name, media_type::OCI_MANIFEST, &bytes) else {
            panic!("{name} is no manifest");
        };
        assert_eq!(manifest.layers.len(), 2);
        for layer in &manifest.layers {
            assert_eq!(layer.media_type, media_type::OCI_LAYER_GZIP);
            assert!(layer.annotations.is_empty() && repository.exists(layer).await.expect("answers"));
        }
        let provider = repository.provider();
        let config = buildkit_util_contentutil::read_all(provider.as_ref(), &manifest.config).await;
        let image: Image = serde_json::from_slice(&config.expect("is read")).expect("is an image");
        assert_eq!(image.rootfs.diff_ids.len(), 2);
        let steps: Vec<_> = image.history.iter().map(|entry| entry.created_by.as_str()).collect();
        assert_eq!(steps, ["write a", "write b"]);
        assert_eq!(image.created, image.history[1].created);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pushed_without_tags() {
    let (fixture, registry) = (Fixture::new().await, Registry::start());
    let scratch = BuildResult::single(None);
    let name = format!("{}/x", registry.host());
    let by_digest = [("push", "true"), ("push-by-digest", "true")];
    let attrs: Vec<_> = by_digest.into_iter().chain([("name", name.as_str())]).collect();
    let exported = fixture.export(&attrs, &scratch).await.expect("exports");
    let digest = exported.response["containerimage.digest"].clone();
    exported.finalize.expect("pushes").finalize(&fixture.context()).await.expect("pushes");
    fixture.repository(&format!("{name}@{digest}")).resolve().await.expect("is there");
    fixture.repository(&name).resolve().await.expect_err("has no tag");

    let prefix = format!("{}/dangling", registry.host());
    let attrs = [("push", "true"), ("dangling-name-prefix", prefix.as_str())];
    let exported = fixture.export(&attrs, &scratch).await.expect("exports");
    assert_eq!(exported.response["image.name"], format!("{prefix}@{digest}"));
    exported.finalize.expect("pushes").finalize(&fixture.context()).await.expect("pushes");
    fixture.repository(&format!("{prefix}@{digest}")).resolve().await.expect("is there");

    let tagged = format!("{name}:tag");
    let attrs: Vec<_> = by_digest.into_iter().chain([("name", tagged.as_str())]).collect();
    let error = fixture.export(&attrs, &scratch).await.err().expect("has a tag");
    assert_eq!(
        error.to_string(),
        format!("failed to push {tagged}: can't push tagged ref {tagged} by digest")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_pushed_is_told() {
    let fixture = Fixture::new().await;
    let scratch = BuildResult::single(None);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("has one");
    let name = format!("{closed}/x");
    let exported = fixture.export(&[("name", &name), ("push", "true")], &scratch).await.expect("exports");
    let context = fixture.context();
    let cancel = context.cancelled.clone();
    let finalize = exported.finalize.expect("pushes");
    cancel.cancel();
    let error = finalize.finalize(&context).await.expect_err("was cancelled").to_string();
    assert!(error.starts_with("failed to push"), "{error}");
    // Without names there is nothing to do.
    let exported = fixture.export(&[("push", "true")], &scratch).await.expect("exports");
    assert!(exported.finalize.is_none() && !exported.response.contains_key("image.name"));
}
