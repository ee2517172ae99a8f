//! Cache directories on real snapshots, secrets over a real session. Needs root.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use buildkit_cache::{CacheManager, CacheOptions, CreateOptions};
use buildkit_cache_metadata::MemoryStore;
use buildkit_session::{SessionGroup, SessionManager, SessionServer};
use buildkit_session_secrets::{SecretStore, SecretsService};
use buildkit_solver_llbsolver_mounts::{
    AgentRequest, CacheMount, CacheRequest, Error, MountManager, SecretRequest, Sharing,
};
use buildkit_util_appcontext::{TaskGuard, spawn};

struct Fixture {
    dir: tempfile::TempDir,
    cache: CacheManager,
    sessions: SessionManager,
    mounts: MountManager,
}

impl Fixture {
    async fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().expect("directory");
        let options = CacheOptions {
            snapshotter: Arc::new(
                buildkit_snapshot_native::open(dir.path().join("snapshots")).expect("snapshots"),
            ),
            metadata: Arc::new(MemoryStore::new()),
            content: Arc::new(buildkit_util_contentutil::MemoryStore::default()),
            mount_root: dir.path().join("mounts"),
            root: dir.path().to_owned(),
            clock: SystemTime::now,
        };
        let cache = CacheManager::open(options).await.expect("cache");
        let sessions = SessionManager::new();
        let root = dir.path().join("special");
        let mounts = MountManager::open(cache.clone(), sessions.clone(), root).await.expect("mounts");
        Self { dir, cache, sessions, mounts }
    }

    async fn get(&self, id: &str, sharing: Sharing) -> CacheMount {
        let exec = self.mounts.exec("step", SessionGroup::default());
        exec.cache(id, "/cache", None, sharing).await.expect("cache mount")
    }
}

async fn path(mount: &CacheMount) -> PathBuf {
    mount.mount().await.expect("mount").source.clone()
}

fn id(mount: &CacheMount) -> String {
    mount.id().expect("held").to_string()
}

#[tokio::test]
async fn sharing_of_cache_directories() {
    let fixture = Fixture::new().await;
    let one = fixture.get("x", Sharing::Shared).await;
    std::fs::write(path(&one).await.join("f"), "kept").expect("write");
    let two = fixture.get("x", Sharing::Shared).await;
    assert_eq!(id(&one), id(&two), "shared");
    let private = fixture.get("x", Sharing::Private).await;
    assert_ne!(id(&private), id(&one), "private");
    let first = id(&one);
    drop((one, two));
    let again = fixture.get("x", Sharing::Private).await;
    assert_eq!(id(&again), first, "what is free is used again");
    assert_eq!(std::fs::read(path(&again).await.join("f")).expect("read"), b"kept");
    assert_ne!(id(&fixture.get("y", Sharing::Shared).await), first);

    let exec = fixture.mounts.exec("step", SessionGroup::default());
    let a = exec.cache("z", "/a", None, Sharing::Locked).await.expect("mount");
    let b = exec.cache("z", "/b", None, Sharing::Locked).await.expect("the same step");
    assert_eq!(id(&a), id(&b));
}

#[tokio::test]
async fn locked_directories_are_waited_for() {
    let fixture = Fixture::new().await;
    let first = fixture.get("x", Sharing::Locked).await;
    let expect = id(&first);
    let waiting = fixture.get("x", Sharing::Locked);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "it is in use");
    drop(first);
    let second = waiting.await;
    assert_eq!(id(&second), expect);
}

#[tokio::test]
async fn steps_that_lock_the_same_directories_never_wait_for_each_other() {
    let fixture = Arc::new(Fixture::new().await);
    let steps: Vec<TaskGuard<()>> = [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]
        .map(|names| {
            let fixture = fixture.clone();
            spawn(async move {
                for _ in 0..20 {
                    let exec = fixture.mounts.exec("step", SessionGroup::default());
                    let sharing = Sharing::Locked;
                    let requests = names.map(|id| CacheRequest { id, dest: id, base: None, sharing });
                    exec.reserve(&requests).await.expect("reserved");
                    tokio::task::yield_now().await;
                    exec.cache(names[0], names[0], None, sharing).await.expect("is held");
                }
            })
        })
        .into();
    for step in steps {
        step.await.expect("task");
    }
}

#[tokio::test]
async fn a2_21_ids_are_never_paths_and_never_meet() {
    let fixture = Fixture::new().await;
    let long = "x".repeat(1 << 20);
    let hostile = ["../../x", "/etc", "a\0b", "a", "a:b", "..", "", "\n", "cache-dir:a", long.as_str()];
    let mut mounts = Vec::new();
    for name in hostile {
        mounts.push(fixture.get(name, Sharing::Shared).await);
    }
    let ids: BTreeSet<String> = mounts.iter().map(id).collect();
    assert_eq!(ids.len(), hostile.len());
    let snapshots = fixture.dir.path().join("snapshots");
    for mount in &mounts {
        let path = path(mount).await;
        assert!(path.starts_with(&snapshots) && path.is_dir(), "{}", path.display());
    }
}

#[tokio::test]
async fn bases_and_pruning() {
    let fixture = Fixture::new().await;
    let base = fixture.cache.create(None, CreateOptions::default()).await.expect("create");
    std::fs::write(base.mount().await.expect("mount").source.join("from-base"), "").expect("write");
    let base = base.commit().await.expect("commit");
    let get = async |with_base: bool| {
        let exec = fixture.mounts.exec("step", SessionGroup::default());
        exec.cache("x", "/c", with_base.then_some(&base), Sharing::Shared).await.expect("cache mount")
    };
    let (based, plain) = (get(true).await, get(false).await);
    assert_ne!(id(&based), id(&plain));
    assert!(path(&based).await.join("from-base").exists());
    fixture.mounts.prune_cache_mounts("x");
    assert_ne!(id(&get(true).await), id(&based), "new steps start anew");
    assert_ne!(id(&get(false).await), id(&plain));
    drop((based, plain));
    fixture.cache.drain().await;
    fixture.mounts.prune_cache_mounts("none");
}

#[tokio::test]
async fn many_steps_share_and_release_at_once() {
    let fixture = Arc::new(Fixture::new().await);
    let tasks: Vec<TaskGuard<BTreeSet<String>>> = (0..8)
        .map(|_| {
            let fixture = fixture.clone();
            spawn(async move {
                let mut ids = BTreeSet::new();
                for _ in 0..50 {
                    let mount = fixture.get("x", Sharing::Shared).await;
                    tokio::task::yield_now().await;
                    ids.insert(id(&mount));
                }
                ids
            })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for task in tasks {
        ids.extend(task.await.expect("task"));
    }
    assert_eq!(ids.len(), 1, "there is never a second directory");
}

struct OneSecret;

#[async_trait::async_trait]
impl SecretStore for OneSecret {
    async fn get_secret(&self, id: &str) -> Result<Vec<u8>, buildkit_session_secrets::Error> {
        match id {
            "known" => Ok(b"value".to_vec()),
            _ => Err(buildkit_session_secrets::Error::NotFound(id.to_owned())),
        }
    }
}

#[tokio::test]
async fn secrets_and_agents_come_from_the_session() {
    let fixture = Fixture::new().await;
    let mut server = SessionServer::new("key").await;
    server.allow(SecretsService::server(Arc::new(OneSecret)), SecretsService::METHODS);
    let group = SessionGroup::new([server.id().to_owned()]);
    let (daemon, client) = tokio::io::duplex(1 << 16);
    let (sessions, headers) = (fixture.sessions.clone(), server.headers());
    let _daemon = spawn(async move { sessions.serve(daemon, headers).await });
    let _client = spawn(async move { server.serve(client).await });

    let exec = fixture.mounts.exec("step", group.clone());
    let request = |id: &str, optional: bool| SecretRequest {
        id: id.to_owned(),
        mode: 0o400,
        optional,
        ..SecretRequest::default()
    };
    let secret = exec.secret(&request("known", false)).await.expect("secret").expect("known");
    assert_eq!(std::fs::read(secret.path()).expect("read"), b"value");
    assert!(secret.path().starts_with(fixture.dir.path().join("special/secrets")));
    assert!(exec.secret(&request("other", true)).await.expect("optional").is_none());
    let error = exec.secret(&request("other", false)).await.err().expect("unknown");
    assert_eq!(error.to_string(), "secret other: not found");
    assert!(matches!(exec.secret(&request("", true)).await, Err(Error::Invalid(_))));
    let value = fixture.mounts.secret_value(&group, "known", false).await.expect("value");
    assert_eq!(value.as_deref(), Some(b"value".as_slice()));

    let agent =
        |optional: bool| AgentRequest { id: "default".to_owned(), optional, ..AgentRequest::default() };
    assert!(exec.agent(&agent(true)).await.expect("optional").is_none());
    let error = exec.agent(&agent(false)).await.err().expect("no agent").to_string();
    assert_eq!(error, "no SSH key \"default\" forwarded from the client");
}
