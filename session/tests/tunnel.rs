//! Both ends of a session over an in-memory byte stream.

use std::time::Duration;

use buildkit_session::{Error, Headers, SessionGroup, SessionManager, SessionServer};
use buildkit_util_appcontext::{TaskGuard, spawn};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const LONG: Duration = Duration::from_secs(60);

/// Opens a session in memory; both ends live until the guards are dropped.
async fn open(manager: &SessionManager, server: SessionServer) -> (TaskGuard<()>, TaskGuard<()>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (manager, headers) = (manager.clone(), server.headers());
    let daemon = spawn(async move { manager.serve(ours, headers).await.expect("session runs") });
    let client = spawn(async move { server.serve(theirs).await.expect("connection ends in order") });
    (daemon, client)
}

#[tokio::test]
async fn the_daemon_calls_the_client() {
    let manager = SessionManager::new();
    let server = SessionServer::new("key").await;
    let id = server.id().to_owned();
    // Lookups may come before the session.
    let waiting = {
        let (manager, id) = (manager.clone(), format!("prefix:{id}"));
        spawn(async move { manager.get(&id, LONG).await })
    };
    tokio::task::yield_now().await;
    let (daemon, client) = open(&manager, server).await;
    let caller = waiting.await.expect("no panic").expect("session appears");
    assert_eq!((caller.id(), caller.shared_key()), (id.as_str(), "key"));
    assert!(caller.supports("/GRPC.health.v1.Health/check"));
    assert!(!caller.supports("/moby.filesync.v1.FileSync/DiffCopy"));
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(caller.channel()).check(request).await.expect("healthy");

    drop(client);
    daemon.await.expect("the daemon's end notices");
    assert!(caller.closed().is_cancelled());
    assert!(matches!(manager.get(&id, Duration::ZERO).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn any_session_of_a_group_serves() {
    let manager = SessionManager::new();
    let server = SessionServer::new("").await;
    let id = server.id().to_owned();
    let _ends = open(&manager, server).await;
    manager.get(&id, LONG).await.expect("session appears");
    let group = SessionGroup::new(["gone".to_owned(), String::new(), id.clone(), id.clone()]);
    assert_eq!(group.ids(), ["gone".to_owned(), id.clone()]);
    let found: Result<String, Error> =
        manager.any(&group, |caller| async move { Ok(caller.id().to_owned()) }).await;
    assert_eq!(found.expect("one is there"), id);
    let none: Result<(), Error> = manager.any(&SessionGroup::default(), |_| async { Ok(()) }).await;
    assert!(matches!(none, Err(Error::NoSessions)));
}

#[tokio::test]
async fn a_session_needs_an_id() {
    let (ours, _theirs) = tokio::io::duplex(64);
    let result = SessionManager::new().serve(ours, Headers::default()).await;
    assert!(matches!(result, Err(Error::NoId)));
}

#[tokio::test]
async fn a_newer_session_takes_the_place_of_an_older() {
    let manager = SessionManager::new();
    let server = SessionServer::new("old").await;
    let headers = server.headers();
    let id = server.id().to_owned();
    let (old, _old_client) = open(&manager, server).await;
    manager.get(&id, LONG).await.expect("session appears");
    let mut renamed = Headers::new(&id, "new", []);
    for (name, value) in headers.iter().filter(|(name, _)| name.ends_with("method")) {
        renamed.append(name, value.to_owned());
    }
    let newer = SessionServer::new("new").await;
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let second = {
        let manager = manager.clone();
        spawn(async move { manager.serve(ours, renamed).await })
    };
    let _client = spawn(async move { newer.serve(theirs).await });
    while manager.get(&id, LONG).await.expect("one of them").shared_key() != "new" {
        tokio::task::yield_now().await;
    }
    old.abort();
    tokio::task::yield_now().await;
    assert_eq!(manager.get(&id, LONG).await.expect("still there").shared_key(), "new");
    drop(second);
}
