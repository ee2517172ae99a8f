//! Builds against a daemon that only talks.

mod fake;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buildkit_client::llb::{MarshalOptions, mkfile, scratch};
use buildkit_client::{BuildRequest, CacheOption, Client, Error, Export, ExportTarget, Frontend};
use buildkit_client_ociindex::StoreIndex;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session_secrets::{Error as SecretError, SecretStore, SecretsService};
use buildkit_util_contentutil::{ContentStore as _, Expected, LayoutStore, MemoryStore};
use buildkit_util_ocispec::Descriptor;
use buildkit_util_progress::SolveStatus;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use fake::{Daemon, Plan};

/// No step of these tests takes this long.
const DEADLINE: Duration = Duration::from_secs(60);

struct Secrets;

#[async_trait]
impl SecretStore for Secrets {
    async fn get_secret(&self, id: &str) -> Result<Vec<u8>, SecretError> {
        Ok(format!("value of {id}").into_bytes())
    }
}

fn request() -> BuildRequest {
    let state = scratch().file(mkfile("/a", 0o644, "a"));
    let definition = state.marshal(&MarshalOptions::new()).expect("marshals");
    let mut request = BuildRequest::of(definition);
    request.attach.push(Box::new(|session| {
        session.allow(SecretsService::server(Arc::new(Secrets)), SecretsService::METHODS);
    }));
    request
}

async fn connect(daemon: &Daemon) -> Client {
    let address = daemon.address().parse().expect("an address");
    Client::connect(&address, None).await.expect("connects")
}

/// Names of the vertices of all messages.
async fn names(mut progress: mpsc::Receiver<SolveStatus>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(message) = progress.recv().await {
        names.extend(message.vertexes.into_iter().map(|vertex| vertex.name));
    }
    names
}

#[tokio::test]
async fn results_and_progress_arrive() {
    let daemon = Daemon::start(Plan::Succeed);
    let client = connect(&daemon).await;
    let mut request = request();
    request.exports.push(Export::directory("local", "/nowhere"));
    request.entitlements.push("network.host".to_owned());
    request.cache_imports.push(CacheOption {
        kind: "registry".to_owned(),
        attrs: BTreeMap::from([("ref".to_owned(), "a/b".to_owned())]),
    });
    let (sender, receiver) = mpsc::channel(1);
    let building = client.build(request, sender, CancellationToken::new());
    let (response, names) = tokio::time::timeout(DEADLINE, async { tokio::join!(building, names(receiver)) })
        .await
        .expect("ends");
    let response = response.expect("builds");
    assert_eq!(response.exporter["exported"], "yes");
    assert_eq!(response.metadata["secret"], b"value of a");
    assert_eq!(names, ["first", "last"]);

    let solve = daemon.request();
    assert_eq!(solve.frontend, "");
    assert!(solve.definition.is_none(), "the bridge carries the definition");
    assert_eq!(solve.exporters[0].r#type, "local");
    assert_eq!(solve.exporter_deprecated, "local");
    assert_eq!(solve.entitlements, ["network.host"]);
    assert_eq!(solve.frontend_attrs["cache-imports"], r#"[{"Attrs":{"ref":"a/b"},"Type":"registry"}]"#);
}

#[tokio::test]
async fn layouts_are_read_and_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = LayoutStore::new(dir.path().join("base"));
    let blobs: Vec<_> = ["image", "layer"].map(|content| add(&base, content)).into();
    let (store, target) = (MemoryStore::default(), dir.path().join("out/layout"));
    let export = |target: ExportTarget| {
        let mut request = request();
        request.oci_stores.insert("base".to_owned(), Arc::new(base.clone()));
        let list = serde_json::to_string(&blobs).expect("a list");
        request.frontend.options.insert("blobs".to_owned(), list);
        let attrs = BTreeMap::from([("name".to_owned(), "*".to_owned())]);
        request.exports.push(Export { kind: "oci".to_owned(), attrs, target });
        request
    };
    for (target, is_store) in [
        (ExportTarget::Directory(target.clone()), false),
        (ExportTarget::Store(Arc::new(store.clone())), true),
    ] {
        let daemon = Daemon::start(Plan::Export);
        let client = connect(&daemon).await;
        let (sender, _receiver) = mpsc::channel(16);
        let building = client.build(export(target), sender, CancellationToken::new());
        tokio::time::timeout(DEADLINE, building).await.expect("ends").expect("builds");
        assert_eq!(is_store, store.info(&blobs[1].digest).is_ok());
    }
    let written = LayoutStore::new(&target);
    for blob in &blobs {
        assert_eq!(written.info(&blob.digest).expect("is there").size, blob.size);
    }
    let index = StoreIndex::new(&target);
    for name in ["a.b/c:1", "a.b/c:2", "2"] {
        let found = index.get(name).expect("an index").expect("is named");
        assert_eq!(found.digest, blobs[0].digest, "{name}");
    }
    assert!(target.join("oci-layout").exists());

    // What fails is not named.
    base.delete(&blobs[1].digest).expect("deletes");
    let daemon = Daemon::start(Plan::Export);
    let client = connect(&daemon).await;
    let (sender, _receiver) = mpsc::channel(16);
    let failed = dir.path().join("failed");
    let building =
        client.build(export(ExportTarget::Directory(failed.clone())), sender, CancellationToken::new());
    let error = tokio::time::timeout(DEADLINE, building).await.expect("ends").expect_err("fails");
    assert!(error.to_string().ends_with("does not exist"), "{error}");
    assert!(!failed.join("index.json").exists());
}

fn add(store: &LayoutStore, content: &str) -> Descriptor {
    let mut ingester = store.ingest(Expected::default()).expect("ingest");
    ingester.write_all(content.as_bytes()).expect("write");
    ingester.commit().expect("commit");
    Descriptor::of("x", content.as_bytes())
}

#[tokio::test]
async fn errors_keep_their_details() {
    let daemon = Daemon::start(Plan::Fail);
    let client = connect(&daemon).await;
    let (sender, receiver) = mpsc::channel(16);
    let building = client.build(request(), sender, CancellationToken::new());
    let error = tokio::time::timeout(DEADLINE, building).await.expect("ends").expect_err("fails");
    assert_eq!(error.to_string(), "failed to solve: exit code: 3");
    assert_eq!(error.kind(), Kind::InvalidArgument);
    let details = &error.remote().expect("the daemon's").details;
    assert_eq!(details[0].json_name(), Some("errdefs.Vertex"));
    assert_eq!(names(receiver).await, ["first", "last"]);
}

#[tokio::test]
async fn giving_up_ends_the_solve_and_shows_the_rest() {
    let daemon = Daemon::start(Plan::Hang);
    let client = connect(&daemon).await;
    let (sender, mut receiver) = mpsc::channel(16);
    let cancel = CancellationToken::new();
    let building = client.build(request(), sender, cancel.clone());
    let giving_up = async {
        let first = receiver.recv().await.expect("progress");
        assert_eq!(first.vertexes[0].name, "first");
        daemon.solving().await;
        cancel.cancel();
        names(receiver).await
    };
    let (result, rest) =
        tokio::time::timeout(DEADLINE, async { tokio::join!(building, giving_up) }).await.expect("ends");
    assert!(matches!(result, Err(Error::Canceled)));
    assert_eq!(rest, ["last"]);
}

#[tokio::test]
async fn a_display_that_is_gone_does_not_stop_the_build() {
    let daemon = Daemon::start(Plan::Succeed);
    let client = connect(&daemon).await;
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let building = client.build(request(), sender, CancellationToken::new());
    tokio::time::timeout(DEADLINE, building).await.expect("ends").expect("builds");
}

#[tokio::test]
async fn settings_are_checked_before_anything_is_sent() {
    let daemon = Daemon::start(Plan::Succeed);
    let client = connect(&daemon).await;
    let cache = |kind: &str| CacheOption { kind: kind.to_owned(), ..CacheOption::default() };
    let with = |change: fn(&mut BuildRequest)| {
        let mut request = request();
        change(&mut request);
        request
    };
    let mut local_cache = request();
    local_cache.cache_exports.push(cache("local"));
    let store = |kind: &str| {
        let mut request = request();
        let target = ExportTarget::Store(Arc::new(MemoryStore::default()));
        request.exports.push(Export { kind: kind.to_owned(), attrs: BTreeMap::new(), target });
        request
    };
    for (request, kind) in [
        (BuildRequest::default(), Kind::InvalidArgument),
        (
            with(|r| r.frontend = Frontend { name: "x".to_owned(), ..Frontend::default() }),
            Kind::InvalidArgument,
        ),
        (with(|r| r.exports.push(Export::directory("tar", "/x"))), Kind::InvalidArgument),
        (store("local"), Kind::InvalidArgument),
        (store("image"), Kind::InvalidArgument),
        (
            with(|r| {
                let mut export = Export::directory("local", "/x");
                export.attrs.insert("mode".to_owned(), "move".to_owned());
                r.exports.push(export);
            }),
            Kind::InvalidArgument,
        ),
        (with(|r| drop(r.local.insert("x".to_owned(), "/nowhere/at/all".into()))), Kind::InvalidArgument),
        (local_cache, Kind::InvalidArgument),
    ] {
        let (sender, _receiver) = mpsc::channel(1);
        let error = client.build(request, sender, CancellationToken::new()).await.expect_err("is wrong");
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert!(!daemon.was_asked());
}

#[tokio::test]
async fn nobody_answers() {
    let address = "unix:///nowhere/at/all.sock".parse().expect("an address");
    let error = Client::connect(&address, None).await.err().expect("fails");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("make sure buildkitd is running"), "{error}");
}
