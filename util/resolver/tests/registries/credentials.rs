//! What authorizes requests: whose it is, what it is good for, and where it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_session_auth::{Credentials, TokenRequest};
use buildkit_util_contentutil::read_all;
use buildkit_util_ocispec::{Descriptor, media_type};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Pushed, Registries, Repository, TokenClient};

use crate::push_faults::provider_of;
use crate::support::{
    Mock, NO_SCRIPT, Reply, Request, Session, Users, layer, limits, manifest, open, options, registries,
    repository,
};

/// Headers that tell who asks.
const TELLING: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

fn tells_nothing(requests: &[Request]) {
    for request in requests {
        assert!(TELLING.iter().all(|name| request.header(name).is_none()), "{request:?}");
        let all = format!("{} {}", request.query, String::from_utf8_lossy(&request.body));
        assert!(!all.contains("s3cret") && !all.contains("me."), "{request:?}");
    }
}

fn basic(user: &str, secret: &str) -> String {
    let encoded = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{secret}"));
    format!("Basic {encoded}")
}

/// A challenge for a token, from where the request came to or from elsewhere.
fn challenge(realm: &str, scope: &str) -> Reply {
    let text = format!(r#"Bearer realm="{realm}",service="mock",scope="{scope}""#);
    Reply::new(401).header("WWW-Authenticate", text)
}

fn own_realm(request: &Request) -> String {
    format!("http://{}/token", request.header("host").expect("a host"))
}

/// A registry of which each repository wants a token: `NAME.SCOPES` of which one scope is for it.
async fn private(check: impl Fn(&Request, &str) -> bool + Send + Sync + 'static) -> Mock {
    Mock::start(move |request| {
        if !request.path.starts_with("/v2/") {
            return None;
        }
        let shown = request.header("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
        match shown {
            Some(token) if check(request, token) => None,
            _ => Some(challenge(&own_realm(request), "")),
        }
    })
    .await
}

fn with(registries: &Registries, ids: &[&str], name: &str, access: Access) -> Repository {
    let group = SessionGroup::new(ids.iter().map(|id| (*id).to_owned()));
    registries.repository(&Reference::parse(name).expect("a name"), &group, access, false)
}

/// A daemon with one client that has a user.
async fn with_user(users: Users) -> (Registries, Arc<Users>, Session) {
    let manager = SessionManager::new();
    let users = Arc::new(users);
    let session = open(&manager, users.clone()).await;
    (Registries::new(options(manager, limits())), users, session)
}

#[tokio::test]
async fn a2_15_redirects_take_nothing_along() {
    let evil = Mock::start(|request| {
        // It would take everything.
        let realm = own_realm(request);
        Some(match request.path.as_str() {
            "/blob" => Reply::new(200).body("layer").header("Set-Cookie", "a=b"),
            "/more" => Reply::new(302).header("Location", "/blob"),
            _ => challenge(&realm, ""),
        })
    })
    .await;
    let to = evil.host();
    let good = Mock::start(move |request| {
        let shown = request.header("authorization");
        if shown.is_none() {
            return Some(Reply::new(401).header("WWW-Authenticate", "Basic realm=x"));
        }
        assert_eq!(shown, Some(basic("me", "s3cret").as_str()));
        let place = match request.path.rsplit_once('/')?.1 {
            "once" => format!("http://{to}/blob"),
            "asks" => format!("//{to}/asks"),
            digest if digest.starts_with("sha256:") => format!("http://{to}/more"),
            _ => return None,
        };
        Some(Reply::new(307).header("Location", place).header("Set-Cookie", "session=1"))
    })
    .await;
    for users in [Users::new("me", "s3cret"), Users::without_tokens("me", "s3cret")] {
        let (registries, _, session) = with_user(users).await;
        let name = format!("{}/a/b", good.host());
        let from = with(&registries, &[&session.id], &name, Access::Pull);
        let bytes = read_all(&*from.provider(), &layer(b"layer")).await.expect("it is there");
        assert_eq!(bytes, "layer");
        // A host that it was sent to asks for credentials: that is no reason to have any.
        let asks = with(&registries, &[&session.id], &format!("{name}:asks"), Access::Pull);
        let error = asks.resolve().await.expect_err("not answered");
        assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
    }
    assert!(evil.requests().len() >= 4);
    tells_nothing(&evil.requests());
}

#[tokio::test]
async fn a2_15_foreign_layers_take_nothing_along() {
    let evil = Mock::start(|request| {
        Some(if request.path == "/layer" {
            Reply::new(200).body("foreign")
        } else {
            Reply::new(401).header("WWW-Authenticate", "Basic")
        })
    })
    .await;
    let good = Mock::start(|request| match request.header("authorization") {
        None => Some(Reply::new(401).header("WWW-Authenticate", "Basic")),
        Some(_) => None,
    })
    .await;
    good.add_manifest("a/b", "latest", &manifest());
    let (registries, _, session) = with_user(Users::new("me", "s3cret")).await;
    let from = with(&registries, &[&session.id], &format!("{}/a/b", good.host()), Access::Pull);
    from.resolve().await.expect("the user is let in");
    for kind in [media_type::OCI_NONDIST_LAYER_GZIP, media_type::DOCKER_FOREIGN_LAYER_GZIP, "x"] {
        let mut blob = Descriptor::of(kind, b"foreign");
        blob.urls = vec![
            "file:///etc/passwd".to_owned(),
            format!("http://me:s3cret@{}/layer", evil.host()),
            format!("http://{}/asks", evil.host()),
            format!("http://{}/layer", evil.host()),
        ];
        let bytes = read_all(&*from.provider(), &blob).await.expect("it is there");
        assert_eq!(bytes, "foreign");
        blob.urls.truncate(3);
        let error = read_all(&*from.provider(), &blob).await.expect_err("nowhere");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    tells_nothing(&evil.requests());
}

#[tokio::test]
async fn a2_15_places_of_uploads_take_nothing_along() {
    let evil =
        Mock::start(|request| (request.method == "PUT").then(|| Reply::new(201).header("Set-Cookie", "a=b")))
            .await;
    let to = evil.host();
    let good = Mock::start(move |request| {
        if request.header("authorization").is_none() {
            return Some(Reply::new(401).header("WWW-Authenticate", "Basic"));
        }
        let place = format!("http://{to}/upload?x=1");
        (request.method == "POST").then(|| Reply::new(202).header("Location", place))
    })
    .await;
    let (registries, _, session) = with_user(Users::new("me", "s3cret")).await;
    let to = with(&registries, &[&session.id], &format!("{}/a/b", good.host()), Access::Push);
    let pushed = to.push_blob(&layer(b"layer"), &provider_of(b"layer"), &[], |_| {}).await;
    assert_eq!(pushed.expect("taken"), Pushed::Uploaded);
    assert_eq!(evil.count("PUT", "/upload"), 1);
    tells_nothing(&evil.requests());
}

#[tokio::test]
async fn a2_15_realms_that_are_none() {
    for realm in [
        "ftp://127.0.0.1/token",
        "http://user:pass@127.0.0.1/token",
        "token",
        "javascript:alert(1)",
        "http://",
    ] {
        let good = Mock::start(move |_| Some(challenge(realm, ""))).await;
        for users in [Users::new("me", "s3cret"), Users::without_tokens("me", "s3cret")] {
            let (registries, users, session) = with_user(users).await;
            let name = format!("{}/a/b", good.host());
            let error = with(&registries, &[&session.id], &name, Access::Pull).resolve().await;
            let error = error.expect_err("not asked");
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
            assert!(!error.to_string().contains("pass@"), "{error}");
            assert_eq!(users.fetched.load(Ordering::SeqCst), 0);
        }
        assert_eq!(good.requests().len(), 2);
    }
}

#[tokio::test]
async fn a2_15_realms_do_not_pass_on() {
    let evil = Mock::start(|_| Some(Reply::new(200).body(r#"{"token":"x"}"#))).await;
    let to = evil.host();
    let good = Mock::start(move |request| {
        (request.path == "/token")
            .then(|| Reply::new(307).header("Location", format!("http://{to}/token?x=1")))
            .or_else(|| Some(challenge(&own_realm(request), "")))
    })
    .await;
    let client = TokenClient::new("test", Default::default(), limits());
    let request = TokenRequest {
        host: good.host(),
        realm: format!("http://{}/token", good.host()),
        ..TokenRequest::default()
    };
    for user in [("me", "s3cret"), ("", "s3cret")] {
        let user = Credentials { username: user.0.to_owned(), secret: user.1.to_owned() };
        client.fetch(&request, &user).await.expect_err("sent elsewhere");
        let (registries, _, session) = with_user(Users::without_tokens(&user.username, &user.secret)).await;
        let name = format!("{}/a/b", good.host());
        let error = with(&registries, &[&session.id], &name, Access::Pull).resolve().await;
        let error = error.expect_err("sent elsewhere");
        assert!(error.to_string().contains("credentials are not sent on"), "{error}");
    }
    assert!(evil.requests().is_empty());
    // What nobody has to hide may go.
    let token = client.fetch(&request, &Credentials::default()).await.expect("fetched");
    assert_eq!((token.token.as_str(), token.expires_in), ("x", 60));
    tells_nothing(&evil.requests());
}

#[tokio::test]
async fn a4_08_tokens_have_the_least_scope() {
    let registry = private(|request, token| {
        // A token is good for exactly its repository.
        let path = request.path.strip_prefix("/v2/").unwrap_or_default();
        let repository = path.split("/manifests/").next().and_then(|path| path.split("/blobs/").next());
        let scope = format!("repository:{}:pull", repository.unwrap_or_default());
        token.split('.').nth(1).is_some_and(|scopes| scopes.split('+').any(|one| one.starts_with(&scope)))
    })
    .await;
    registry.add_manifest("a", "latest", &manifest());
    registry.add_manifest("b", "latest", &manifest());
    let secret = registry.add_blob("c", b"of c");
    let (registries, users, session) = with_user(Users::new("me", "s3cret")).await;
    let repository = |name: &str, access| {
        with(&registries, &[&session.id], &format!("{}/{name}", registry.host()), access)
    };
    repository("a", Access::Pull).resolve().await.expect("let in");
    repository("b", Access::Push).resolve().await.expect("let in");
    // A mount needs a token for both, which is used for nothing else.
    let pushed = repository("b", Access::Push)
        .push_blob(&secret, &provider_of(b"of c"), &["c".to_owned()], |_| {})
        .await;
    assert_eq!(pushed.expect("mounted"), Pushed::Mounted);
    repository("b", Access::Push).resolve().await.expect("let in");
    let asked: Vec<Vec<String>> = users.asked.lock().iter().map(|request| request.scopes.clone()).collect();
    assert_eq!(
        asked,
        [
            vec!["repository:a:pull".to_owned()],
            vec!["repository:b:pull,push".to_owned()],
            vec!["repository:b:pull,push".to_owned(), "repository:c:pull".to_owned()],
        ]
    );
    for request in registry.requests() {
        let Some(shown) = request.header("authorization") else { continue };
        let (is_a, is_mount) = (request.path.starts_with("/v2/a/"), request.query.contains("mount="));
        assert_eq!(shown.contains("repository:a:"), is_a, "{request:?}");
        assert_eq!(shown.contains("repository:c:"), is_mount, "{request:?}");
    }
    // What a registry says that it wants is asked for only as far as it is needed.
    let greedy = Mock::start(|request| {
        let scope = "repository:b:pull,push repository:a:pull,push,delete registry:catalog:*";
        request.header("authorization").is_none().then(|| challenge(&own_realm(request), scope))
    })
    .await;
    greedy.add_manifest("b", "latest", &manifest());
    let name = format!("{}/b", greedy.host());
    with(&registries, &[&session.id], &name, Access::Pull).resolve().await.expect("let in");
    assert_eq!(users.asked.lock().last().expect("asked").scopes, ["repository:b:pull"]);
}

#[tokio::test]
async fn a4_08_tokens_are_of_their_users() {
    let registry = private(|_, token| token.contains("repository:a:pull")).await;
    registry.add_manifest("a", "latest", &manifest());
    let manager = SessionManager::new();
    let registries = Registries::new(options(manager.clone(), limits()));
    let name = format!("{}/a", registry.host());
    let me = Arc::new(Users::new("me", "s3cret"));
    let also_me = Arc::new(Users::new("me", "s3cret"));
    let you = Arc::new(Users::new("you", "other"));
    let (nobody, no_one) = (Arc::new(Users::default()), Arc::new(Users::default()));
    let mut sessions = Vec::new();
    let mut shown = Vec::new();
    for users in [&me, &also_me, &you, &nobody, &no_one, &me] {
        let session = open(&manager, users.clone()).await;
        with(&registries, &[&session.id], &name, Access::Pull).resolve().await.expect("let in");
        let last = registry.requests().pop().expect("asked");
        shown.push(last.header("authorization").expect("shown").to_owned());
        sessions.push(session);
    }
    // The same user at another client has the same token, and so have all who are nobody.
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0], shown[5]);
    assert_eq!(shown[3], shown[4]);
    assert!(shown[0].starts_with("Bearer me.") && shown[2].starts_with("Bearer you."));
    assert!(shown[3].starts_with("Bearer ."));
    let fetched = [&me, &also_me, &you, &nobody, &no_one].map(|users| users.fetched.load(Ordering::SeqCst));
    assert_eq!(fetched, [1, 0, 1, 1, 0]);

    // Clients that have no tokens: the daemon fetches them, for the credentials that it was given.
    let users = [("me", "s3cret"), ("me", "s3cret"), ("you", "other"), ("me", "other")];
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let registry = Mock::start(move |request| {
        if request.path == "/token" {
            count.fetch_add(1, Ordering::SeqCst);
            if request.method == "POST" {
                return Some(Reply::new(405));
            }
            let user = request.header("authorization").unwrap_or("nobody").replace(' ', "-");
            return Some(Reply::new(200).body(format!(r#"{{"token":"{user}","expires_in":300}}"#)));
        }
        request.header("authorization").is_none().then(|| challenge(&own_realm(request), ""))
    })
    .await;
    registry.add_manifest("a", "latest", &manifest());
    let name = format!("{}/a", registry.host());
    let mut counts = Vec::new();
    for (user, secret) in users {
        let session = open(&manager, Arc::new(Users::without_tokens(user, secret))).await;
        with(&registries, &[&session.id], &name, Access::Pull).resolve().await.expect("let in");
        let last = registry.requests().pop().expect("asked");
        let expect = format!("Bearer {}", basic(user, secret).replace(' ', "-"));
        assert_eq!(last.header("authorization"), Some(expect.as_str()));
        counts.push(asked.load(Ordering::SeqCst));
        sessions.push(session);
    }
    assert_eq!(counts, [2, 2, 4, 6]);
}

#[tokio::test]
async fn nobody_gets_what_anybody_may_have() {
    let registry = Mock::start(|request| {
        if request.path == "/token" {
            assert!(request.header("authorization").is_none() && request.method == "GET");
            assert_eq!(request.query, "service=mock&scope=repository%3Aa%3Apull");
            return Some(Reply::new(200).body(r#"{"access_token":"anonymous-token","expires_in":null}"#));
        }
        (request.header("authorization") != Some("Bearer anonymous-token"))
            .then(|| challenge(&own_realm(request), "repository:a:pull"))
    })
    .await;
    registry.add_manifest("a", "latest", &manifest());
    let registries = registries(limits());
    let name = format!("{}/a", registry.host());
    for _ in 0..3 {
        repository(&registries, &name, Access::Pull).resolve().await.expect("let in");
    }
    assert_eq!(registry.count("GET", "/token"), 1);
    // Nobody has a password.
    let registry = Mock::start(|_| Some(Reply::new(401).header("WWW-Authenticate", "Basic"))).await;
    let name = format!("{}/a", registry.host());
    let error = repository(&registries, &name, Access::Pull).resolve().await.expect_err("not let in");
    assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
    assert!(error.to_string().contains("authorization failed"), "{error}");
}

#[tokio::test]
async fn identity_tokens_are_exchanged() {
    let registry = Mock::start(|request| {
        if request.path == "/token" {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            assert_eq!(
                form,
                "scope=repository%3Aa%3Apull&service=mock&client_id=buildkit-client&grant_type=refresh_token&refresh_token=i%26d"
            );
            return Some(Reply::new(200).body(r#"{"access_token":"made"}"#));
        }
        (request.header("authorization") != Some("Bearer made")).then(|| challenge(&own_realm(request), ""))
    })
    .await;
    registry.add_manifest("a", "latest", &manifest());
    let (registries, _, session) = with_user(Users::without_tokens("", "i&d")).await;
    let name = format!("{}/a", registry.host());
    with(&registries, &[&session.id], &name, Access::Pull).resolve().await.expect("let in");
}

#[tokio::test]
async fn b_16_expired_tokens_are_renewed() {
    // Each token is good for three requests.
    let registry = Mock::start({
        let uses: parking_lot::Mutex<std::collections::HashMap<String, usize>> = Default::default();
        move |request| {
            let shown = request.header("authorization").unwrap_or_default().to_owned();
            let mut uses = uses.lock();
            let used = uses.entry(shown.clone()).or_default();
            *used += 1;
            (shown.is_empty() || *used > 3).then(|| {
                let text = format!(r#"Bearer realm="{}",error="invalid_token""#, own_realm(request));
                Reply::new(401).header("WWW-Authenticate", text)
            })
        }
    })
    .await;
    let (registries, users, session) = with_user(Users::new("me", "s3cret")).await;
    let name = format!("{}/a", registry.host());
    let blobs: Vec<Vec<u8>> = (0..20u8).map(|at| vec![at; 100]).collect();
    for bytes in &blobs {
        registry.add_blob("a", bytes);
    }
    let from = with(&registries, &[&session.id], &name, Access::Pull);
    for bytes in &blobs {
        let read = read_all(&*from.provider(), &layer(bytes)).await.expect("let in");
        assert_eq!(read, bytes.as_slice());
    }
    assert_eq!(users.fetched.load(Ordering::SeqCst), 7);
    // While something is pushed as well.
    let to = with(&registries, &[&session.id], &name, Access::Push);
    for at in 100..110u8 {
        let bytes = vec![at; 100];
        let pushed = to.push_blob(&layer(&bytes), &provider_of(&bytes), &[], |_| {}).await;
        assert_eq!(pushed.expect("pushed"), Pushed::Uploaded);
    }
}

#[tokio::test]
async fn denied_is_told_at_once() {
    let registry = Mock::start(|request| {
        let text = format!(
            r#"Bearer realm="{}",service="x",scope="repository:a:pull",error="insufficient_scope""#,
            own_realm(request)
        );
        Some(Reply::new(401).header("WWW-Authenticate", text))
    })
    .await;
    let (registries, users, session) = with_user(Users::new("me", "s3cret")).await;
    let name = format!("{}/a", registry.host());
    for _ in 0..5 {
        let error = with(&registries, &[&session.id], &name, Access::Pull).resolve().await;
        let error = error.expect_err("not let in");
        assert_eq!(error.kind(), Kind::Unauthenticated);
        let text = error.to_string();
        assert!(
            text.contains("pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"),
            "{text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
    }
    assert!(users.fetched.load(Ordering::SeqCst) <= 10);
    assert!(registry.requests().len() <= 15, "{}", registry.requests().len());
}

#[tokio::test]
async fn those_who_left_get_what_anybody_may_have() {
    let registry = Mock::start(|request| {
        if request.path == "/token" {
            return Some(Reply::new(200).body(r#"{"token":"for-anybody","expires_in":3600}"#));
        }
        request.header("authorization").is_none().then(|| challenge(&own_realm(request), ""))
    })
    .await;
    registry.add_manifest("a", "latest", &manifest());
    let registries = registries(limits());
    let from = with(&registries, &["gone"], &format!("{}/a", registry.host()), Access::Pull);
    // They are waited for once only, when the token is fetched.
    for _ in 0..20 {
        from.resolve().await.expect("let in");
    }
    assert_eq!(registry.count("GET", "/token"), 1);
}

#[tokio::test]
async fn registries_change_their_minds() {
    // The realm is nowhere, then it gives tokens, then a password is wanted, then nothing.
    let phase = Arc::new(AtomicUsize::new(0));
    let now = phase.clone();
    let registry = Mock::start(move |request| {
        let shown = request.header("authorization").unwrap_or_default();
        match now.load(Ordering::SeqCst) {
            0 => Some(challenge("http://[", "")),
            1 => (!shown.starts_with("Bearer")).then(|| challenge(&own_realm(request), "")),
            2 => (!shown.starts_with("Basic"))
                .then(|| Reply::new(401).header("WWW-Authenticate", "Basic realm=x")),
            _ => None,
        }
    })
    .await;
    registry.add_manifest("a", "latest", &manifest());
    let (registries, _, session) = with_user(Users::new("me", "s3cret")).await;
    let from = with(&registries, &[&session.id], &format!("{}/a", registry.host()), Access::Pull);
    from.resolve().await.expect_err("no realm");
    for next in 1..4 {
        phase.store(next, Ordering::SeqCst);
        from.resolve().await.expect("let in");
    }
}

#[tokio::test]
async fn the_next_session_helps() {
    let registry = private(|_, token| token.starts_with("me.")).await;
    registry.add_manifest("a", "latest", &manifest());
    let manager = SessionManager::new();
    let registries = Registries::new(options(manager.clone(), limits()));
    let name = format!("{}/a", registry.host());
    let me = open(&manager, Arc::new(Users::new("me", "s3cret"))).await;
    let gone = open(&manager, Arc::new(Users::new("gone", "x"))).await;
    let id = gone.id.clone();
    drop(gone);
    with(&registries, &[&id, &me.id], &name, Access::Pull).resolve().await.expect("let in");
}

#[tokio::test]
async fn one_token_for_all_who_wait() {
    let registry = private(|_, token| token.starts_with("me.")).await;
    let blobs: Vec<Vec<u8>> = (0..20u8).map(|at| vec![at; 100]).collect();
    for bytes in &blobs {
        registry.add_blob("a", bytes);
    }
    let (registries, users, session) = with_user(Users::new("me", "s3cret")).await;
    let from = with(&registries, &[&session.id], &format!("{}/a", registry.host()), Access::Pull);
    let provider = from.provider();
    let descriptors: Vec<_> = blobs.iter().map(|bytes| layer(bytes)).collect();
    let reads = descriptors.iter().map(|blob| read_all(&*provider, blob));
    futures::future::try_join_all(reads).await.expect("let in");
    assert_eq!(users.fetched.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn silence_of_the_mock_is_no_success() {
    let mock = Mock::start(NO_SCRIPT).await;
    let name = format!("{}/a", mock.host());
    let error = repository(&registries(limits()), &name, Access::Pull).resolve().await.expect_err("empty");
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        error.to_string(),
        format!("registry {}: HEAD manifest of a:latest: 404 Not Found", mock.host())
    );
}
