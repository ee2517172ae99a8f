//! Clients that take any answer, beside others that do not.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use buildkit_session::{SessionGroup, SessionManager};
use buildkit_util_appcontext::spawn;
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries, RegistryConfig, RegistryOptions};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    Certificates, Front, Mock, NO_SCRIPT, Reply, Request, Users, limits, manifest, open, options,
};

/// The `Authorization` and `Cookie` of all requests of a mock, and their bodies.
fn told(mock: &Mock) -> Vec<String> {
    let requests = mock.requests();
    let headers = requests.iter().flat_map(|request| {
        ["authorization", "cookie"].iter().filter_map(|name| request.header(name)).map(str::to_owned)
    });
    let bodies = requests.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
    headers.chain(bodies).filter(|text| !text.is_empty()).collect()
}

/// What a realm gives to anybody.
fn token(request: &Request) -> Option<Reply> {
    (request.path == "/token").then(|| Reply::new(200).body(r#"{"token":"t"}"#))
}

/// What answers in the place of a registry that one client wants to be asked insecurely cannot have the
/// credentials of another client sent to itself.
#[tokio::test]
async fn a2_15_realms_of_insecure_answers_get_no_credentials() {
    let certificates = Certificates::new();
    let evil = Mock::start(token).await;
    let evil_front = Front::of(&evil.host(), &certificates).await;
    let is_attacked = Arc::new(AtomicBool::new(true));
    let (attacked, own) = (is_attacked.clone(), Arc::new(Mutex::new(String::new())));
    let (evil_host, own_host) = (evil_front.host(), own.clone());
    let registry = Mock::start(move |request| {
        if !request.path.starts_with("/v2/") || request.header("authorization").is_some() {
            return token(request);
        }
        let realm = match attacked.load(Ordering::SeqCst) {
            true => evil_host.clone(),
            false => own_host.lock().clone(),
        };
        let challenge = format!(r#"Bearer realm="https://{realm}/token",service="mock""#);
        Some(Reply::new(401).header("WWW-Authenticate", challenge))
    })
    .await;
    registry.add_manifest("a/b", "latest", &manifest());
    let front = Front::of(&registry.host(), &certificates).await;
    own.lock().clone_from(&front.host());

    let manager = SessionManager::new();
    let session = open(&manager, Arc::new(Users::without_tokens("me", "s3cret"))).await;
    let config = RegistryConfig {
        root_cas: vec![certificates.path("ca.crt")],
        plain_http: Some(false),
        ..RegistryConfig::default()
    };
    let all = Registries::new(RegistryOptions {
        registries: BTreeMap::from([(front.host(), config)]),
        ..options(manager, limits())
    });
    let name = Reference::parse(&format!("{}/a/b", front.host())).expect("a name");
    all.repository(&name, &SessionGroup::default(), Access::Pull, true).resolve().await.expect("for anybody");
    assert!(!evil.requests().is_empty(), "the realm was asked");

    is_attacked.store(false, Ordering::SeqCst);
    let group = SessionGroup::new([session.id.clone()]);
    all.repository(&name, &group, Access::Pull, false).resolve().await.expect("with a password");
    assert_eq!(told(&evil), [""; 0]);
    assert!(told(&registry).iter().any(|text| text.contains("s3cret")), "its own realm got it");
}

/// A host that did not speak TLS once, and nothing else either, is asked over TLS again.
#[tokio::test]
async fn what_answers_nothing_does_not_count_as_plain_http() {
    let certificates = Certificates::new();
    let registry = Mock::start(NO_SCRIPT).await;
    registry.add_manifest("a/b", "latest", &manifest());
    let front = Front::of(&registry.host(), &certificates).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("free port");
    let host = listener.local_addr().expect("an address").to_string();
    let behind: SocketAddr = front.address;
    let _task = spawn(async move {
        // One over TLS, and one without.
        for _ in 0..2 {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            // It may have gone.
            let _ = stream.write_all(b"this is neither TLS nor HTTP\r\n\r\n").await;
        }
        let mut open = Vec::new();
        while let Ok((mut outer, _)) = listener.accept().await {
            open.push(spawn(async move {
                let Ok(mut inner) = TcpStream::connect(behind).await else { return };
                // Either may leave at any time.
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            }));
        }
    });
    let all = Registries::new(options(SessionManager::new(), limits()));
    let name = Reference::parse(&format!("{host}/a/b")).expect("a name");
    let found = all.repository(&name, &SessionGroup::default(), Access::Pull, true).resolve().await;
    assert_eq!(found.expect("is asked again").host, host);
}
