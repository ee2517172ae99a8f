//! The distribution registry, and TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_util_contentutil::read_all;
use buildkit_util_ocispec::{Descriptor, media_type};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{
    Access, KeyPair, Pushed, Registries, RegistryConfig, RegistryOptions, Repository,
};
use buildkit_util_testutil::{Image, Layer, Registry};

use crate::push_faults::provider_of;
use crate::support::{
    Certificates, Cutting, End, Front, Mock, NO_SCRIPT, Reply, Users, layer, limits, manifest, noise, open,
    options, registries, repository, rounds,
};

/// `me` with the password `secret`.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

fn with(config: &[(&str, RegistryConfig)]) -> RegistryOptions {
    let registries = config.iter().map(|(host, config)| ((*host).to_owned(), config.clone())).collect();
    RegistryOptions { registries, ..options(SessionManager::new(), limits()) }
}

fn https(config: RegistryConfig) -> RegistryConfig {
    RegistryConfig { plain_http: Some(false), ..config }
}

/// Pushes a blob and a manifest, and pulls them.
async fn round_trip(to: &Repository) {
    let bytes = noise(7, 100_000);
    let blob = layer(&bytes);
    let pushed = to.push_blob(&blob, &provider_of(&bytes), &[], |_| {}).await.expect("pushed");
    assert_eq!(pushed, Pushed::Uploaded);
    let again = to.push_blob(&blob, &provider_of(&bytes), &[], |_| {}).await.expect("there");
    assert_eq!(again, Pushed::Existed);
    to.push_blob(&Descriptor::of(media_type::OCI_CONFIG, b"{}"), &provider_of(b"{}"), &[], |_| {})
        .await
        .expect("pushed");
    let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest());
    to.push_manifest(&descriptor, manifest().into(), Some("v1")).await.expect("pushed");
    assert_eq!(read_all(&*to.provider(), &blob).await.expect("there"), bytes);
    assert_eq!(to.manifest(&descriptor).await.expect("there"), manifest());
    assert_eq!(to.resolve().await.expect("there").descriptor, descriptor);
}

#[tokio::test]
async fn passwords() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("htpasswd");
    std::fs::write(&file, HTPASSWD).expect("written");
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", file.display());
    let registry = Registry::configured(&auth, "");
    let manager = SessionManager::new();
    let all = Registries::new(options(manager.clone(), limits()));
    let name = Reference::parse(&format!("{}/a/b:v1", registry.host())).expect("a name");
    for (user, secret, expect) in [("me", "secret", true), ("me", "wrong", false), ("", "", false)] {
        for users in [Users::new(user, secret), Users::without_tokens(user, secret)] {
            let session = open(&manager, Arc::new(users)).await;
            let group = SessionGroup::new([session.id.clone()]);
            let to = all.repository(&name, &group, Access::Push, false);
            if expect {
                if to.resolve().await.is_err() {
                    round_trip(&to).await;
                }
                assert!(to.resolve().await.is_ok());
            } else {
                let error = to.resolve().await.expect_err("not let in");
                assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
                assert!(!error.to_string().contains("wrong"), "{error}");
            }
        }
    }
    let error = all.repository(&name, &SessionGroup::default(), Access::Pull, false).resolve().await;
    assert_eq!(error.expect_err("nobody").kind(), Kind::Unauthenticated);
}

#[tokio::test]
async fn private_authorities_and_client_certificates() {
    let certificates = Certificates::new();
    let path = |name: &str| certificates.path(name);
    for is_mutual in [false, true] {
        let mut tls = format!(
            "tls: {{certificate: {}, key: {}",
            path("server.cert").display(),
            path("server.key").display()
        );
        if is_mutual {
            tls.push_str(&format!(", clientcas: [{}]", path("ca.crt").display()));
        }
        let registry = Registry::configured("", &format!("{tls}}}"));
        let host = registry.host();
        let name = format!("{host}/a/b:v1");
        let pair = KeyPair { key: path("client.key"), cert: path("client.cert") };
        let ca = RegistryConfig { root_cas: vec![path("ca.crt")], ..RegistryConfig::default() };
        let both = RegistryConfig { key_pairs: vec![pair.clone()], ..ca.clone() };
        let dir = RegistryConfig {
            tls_config_dirs: vec![certificates.dir().to_owned(), path("absent")],
            ..RegistryConfig::default()
        };
        let insecure = RegistryConfig { insecure: Some(true), ..RegistryConfig::default() };
        let insecure_pair = RegistryConfig { key_pairs: vec![pair], ..insecure.clone() };
        for (what, config, expect) in [
            ("nothing", RegistryConfig::default(), false),
            ("authority", ca, !is_mutual),
            ("authority and certificate", both, true),
            // It holds the server's pair too, which is a client's as well.
            ("directory", dir, true),
            ("insecure", insecure, !is_mutual),
            ("insecure and certificate", insecure_pair, true),
        ] {
            let all = Registries::new(with(&[(&host, https(config))]));
            let to = repository(&all, &name, Access::Push);
            match (to.resolve().await, expect) {
                (Err(error), true) if error.kind() == Kind::NotFound => round_trip(&to).await,
                (Ok(_), true) => {}
                (Err(error), false) => assert_eq!(error.kind(), Kind::Unavailable, "{what}: {error}"),
                (result, _) => panic!("{what}, mutual: {is_mutual}: {result:?}"),
            }
        }
    }
    // What cannot be read is told, and read again when it can.
    let file = path("later.crt");
    let config = RegistryConfig { root_cas: vec![file.clone()], ..RegistryConfig::default() };
    let all = Registries::new(with(&[("127.0.0.1:1", https(config))]));
    let from = repository(&all, "127.0.0.1:1/a", Access::Pull);
    let error = from.resolve().await.expect_err("no file");
    assert!(error.to_string().contains("later.crt"), "{error}");
    std::fs::write(&file, "no certificate").expect("written");
    let error = from.resolve().await.expect_err("nobody listens");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn certificates_that_have_signed_themselves() {
    let certificates = Certificates::new();
    for is_authority in ["TRUE", "FALSE"] {
        let (cert, key) = certificates.signed_by_itself(is_authority);
        let tls = format!("tls: {{certificate: {}, key: {}}}", cert.display(), key.display());
        let registry = Registry::configured("", &tls);
        let host = registry.host();
        let config = RegistryConfig { root_cas: vec![cert], ..RegistryConfig::default() };
        let port = host.rsplit_once(':').expect("a port").1;
        // It is for this name, and for no other one.
        for (host, expect) in [(host.clone(), true), (format!("localhost:{port}"), false)] {
            let all = Registries::new(with(&[(&host, https(config.clone()))]));
            let to = repository(&all, &format!("{host}/a/b:v1"), Access::Push);
            let error = to.resolve().await.expect_err("it is empty");
            assert_eq!(error.kind() == Kind::NotFound, expect, "{is_authority}: {error}");
        }
        // Another one of the same kind is not it.
        let other =
            RegistryConfig { root_cas: vec![certificates.path("ca.crt")], ..RegistryConfig::default() };
        let all = Registries::new(with(&[(&host, https(other))]));
        let error = repository(&all, &format!("{host}/a/b:v1"), Access::Pull).resolve().await;
        assert_eq!(error.expect_err("unknown").kind(), Kind::Unavailable);
    }
}

#[tokio::test]
async fn insecure_takes_what_there_is() {
    let certificates = Certificates::new();
    let registry = Registry::start();
    let front = Front::of(&registry.host(), &certificates).await;
    let all = registries(limits());
    let of = |host: &str| {
        let name = Reference::parse(&format!("{host}/a/b:v1")).expect("a name");
        all.repository(&name, &SessionGroup::default(), Access::Push, true)
    };
    // Plain HTTP where HTTPS is tried first, then a certificate of nobody.
    round_trip(&of(&registry.host())).await;
    assert!(of(&front.host()).resolve().await.is_ok());
    // Without that, this machine is asked over plain HTTP, which the front does not speak.
    let error = repository(&all, &format!("{}/a/b:v1", front.host()), Access::Pull).resolve().await;
    assert!(error.is_err());
}

#[tokio::test]
async fn mirrors_come_first() {
    let (mirror, origin) = (Registry::start(), Registry::start());
    let of =
        |text: &str| Image::new("linux/amd64", &[Layer::new().file("f", 0o644, text)], serde_json::json!({}));
    let (cached, newer) = (of("cached"), of("newer"));
    mirror.push(&cached, "proxy/a/b", "v1");
    origin.push(&newer, "a/b", "v1");
    origin.push(&newer, "a/b", "v2");
    let (mirror_host, origin_host) = (mirror.host(), origin.host());
    let config = RegistryConfig {
        // The first is not there.
        mirrors: vec!["127.0.0.1:1".to_owned(), format!("http://{mirror_host}/proxy/")],
        ..RegistryConfig::default()
    };
    let all = Registries::new(with(&[(&origin_host, config.clone())]));
    let name = |tag: &str| format!("{origin_host}/a/b:{tag}");
    let found = repository(&all, &name("v1"), Access::Pull).resolve().await.expect("there");
    assert_eq!((found.descriptor.digest.as_str(), &found.host), (cached.digest(), &mirror_host));
    let found = repository(&all, &name("v2"), Access::Pull).resolve().await.expect("there");
    assert_eq!((found.descriptor.digest.as_str(), &found.host), (newer.digest(), &origin_host));
    // Blobs too, each from where it is.
    for image in [&cached, &newer] {
        let layer = image.document(image.digest())["layers"][0].clone();
        let layer: Descriptor = serde_json::from_value(layer).expect("a descriptor");
        let provider = repository(&all, &name("v1"), Access::Pull).provider();
        assert_eq!(read_all(&*provider, &layer).await.expect("there"), image.blob(layer.digest.as_str()));
    }
    // What is pushed goes to the registry.
    let found = repository(&all, &name("v1"), Access::Push).resolve().await.expect("there");
    assert_eq!(found.host, origin_host);
    let error = repository(&all, &name("v3"), Access::Pull).resolve().await.expect_err("nowhere");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains(&mirror_host) && error.to_string().contains(&origin_host), "{error}");
    // A mirror alone, of a registry that is not to be reached.
    let all = Registries::new(with(&[("registry.invalid", config)]));
    let found = repository(&all, "registry.invalid/a/b:v1", Access::Pull).resolve().await.expect("there");
    assert_eq!(found.descriptor.digest.as_str(), cached.digest());
    let error =
        repository(&all, "registry.invalid/a/b:v3", Access::Pull).resolve().await.expect_err("nowhere");
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains("registry.invalid"), "{error}");
}

#[tokio::test]
async fn b_17_a_line_breaks() {
    let registry = Registry::start();
    let all = registries(limits());
    for round in 0..rounds() {
        let bytes = noise(round as u64, 3 << 20);
        let blob = layer(&bytes);
        let line = Cutting::of(&registry.host(), (1 + round % 5) << 18, 3).await;
        let to = repository(&all, &format!("{}/a/b", line.host()), Access::Push);
        to.push_blob(&blob, &provider_of(&bytes), &[], |_| {}).await.expect("pushed");
        assert_eq!(line.cuts.swap(3, Ordering::SeqCst), 0);
        assert!(read_all(&*to.provider(), &blob).await.expect("there") == bytes);
        assert_eq!(line.cuts.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn b_16_a_mirror_breaks_in_the_middle() {
    let bytes = noise(1, 300_000);
    let content = bytes.clone();
    let mirror = Mock::start(move |request| {
        let reply = Reply::new(200).body(content.clone()).end(End::Cut(100_000));
        Some(if request.header("range").is_some() { Reply::new(503) } else { reply })
    })
    .await;
    let origin = Mock::start(NO_SCRIPT).await;
    let blob = origin.add_blob("a/b", &bytes);
    for _ in 0..rounds() {
        let config = RegistryConfig { mirrors: vec![mirror.host()], ..RegistryConfig::default() };
        let all = Registries::new(with(&[(&origin.host(), config)]));
        let provider = repository(&all, &format!("{}/a/b", origin.host()), Access::Pull).provider();
        assert!(read_all(&*provider, &blob).await.expect("there") == bytes);
        let last = origin.requests().pop().expect("asked");
        assert_eq!(last.header("range"), Some("bytes=100000-"));
    }
    assert_eq!(origin.requests().len(), rounds());
}

#[tokio::test]
async fn referrers_by_list_or_by_tag() {
    let subject = Descriptor::of(media_type::OCI_MANIFEST, &manifest());
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [{ "mediaType": media_type::OCI_MANIFEST, "digest": subject.digest, "size": 1 }],
    });
    let index = serde_json::to_vec(&index).expect("JSON");
    let all = registries(limits());
    for place in ["referrers/sha256:", "manifests/sha256-", "nowhere"] {
        let content = index.clone();
        let mock = Mock::start(move |request| {
            request.is("GET", place).then(|| Reply::new(200).body(content.clone()))
        })
        .await;
        let from = repository(&all, &format!("{}/a/b", mock.host()), Access::Pull);
        let found = from.referrers(&subject.digest).await.expect("asked");
        assert_eq!(found.manifests.len(), usize::from(place != "nowhere"));
    }
    // A real one that knows no such lists.
    let registry = Registry::start();
    let from = repository(&all, &format!("{}/a/b", registry.host()), Access::Pull);
    assert!(from.referrers(&subject.digest).await.expect("asked").manifests.is_empty());
}

/// A registry that speaks HTTPS sends us to one that does not.
#[tokio::test]
async fn a2_15_no_downgrade() {
    let certificates = Certificates::new();
    let plain = Mock::start(NO_SCRIPT).await;
    plain.add_manifest("a/b", "v1", &manifest());
    let bytes = noise(3, 1000);
    let blob = plain.add_blob("a/b", &bytes);
    let to = plain.host();
    let registry = Mock::start(move |request| {
        if request.header("authorization").is_none() {
            let realm = format!("http://{to}/token");
            let asks = if request.path.contains("/realm/") {
                format!(r#"Bearer realm="{realm}""#)
            } else {
                "Basic".to_owned()
            };
            return Some(Reply::new(401).header("WWW-Authenticate", asks));
        }
        let place = format!("http://{to}{}", request.path);
        let status = if request.method == "POST" { 202 } else { 307 };
        Some(Reply::new(status).header("Location", place))
    })
    .await;
    let front = Front::of(&registry.host(), &certificates).await;
    let host = front.host();
    let config = RegistryConfig { root_cas: vec![certificates.path("ca.crt")], ..RegistryConfig::default() };
    for users in [Users::new("me", "s3cret"), Users::without_tokens("me", "s3cret")] {
        let manager = SessionManager::new();
        let session = open(&manager, Arc::new(users)).await;
        let registries = BTreeMap::from([(host.clone(), https(config.clone()))]);
        let all = Registries::new(RegistryOptions { registries, ..options(manager, limits()) });
        let of = |name: &str, access| {
            let name = Reference::parse(&format!("{host}/{name}")).expect("a name");
            all.repository(&name, &SessionGroup::new([session.id.clone()]), access, false)
        };
        // What a tag stands for is not asked over plain HTTP.
        let error = of("a/b:v1", Access::Pull).resolve().await.expect_err("refused");
        assert!(error.to_string().contains("over plain HTTP"), "{error}");
        // Nor is something private sent over it, or a password.
        let secret = layer(b"secret");
        let error = of("a/b", Access::Push)
            .push_blob(&secret, &provider_of(b"secret"), &[], |_| {})
            .await
            .expect_err("refused");
        assert!(error.to_string().contains("over plain HTTP"), "{error}");
        let error = of("realm/b:v1", Access::Pull).resolve().await.expect_err("refused");
        assert!(error.to_string().contains("over plain HTTP"), "{error}");
        // What has a digest may come from anywhere.
        let read = read_all(&*of("a/b", Access::Pull).provider(), &blob).await.expect("there");
        assert_eq!(read, bytes);
    }
    for request in plain.requests() {
        assert!(request.header("authorization").is_none() && !request.method.starts_with('P'), "{request:?}");
        assert_ne!(request.path, "/token");
    }
}
