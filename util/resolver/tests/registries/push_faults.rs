//! Registries that break while something is pushed (B-17).

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_util_contentutil::{ContentStore as _, Expected, MemoryStore, StoreProvider};
use buildkit_util_ocispec::{Descriptor, media_type};
use buildkit_util_resolver::{Access, Error, Limits, Pushed};
use futures::future::join_all;

use crate::support::{
    End, Mock, NO_SCRIPT, Reply, Request, impatient, layer, limits, manifest, noise, registries, repository,
    rounds,
};

const SIZE: usize = 300_000;

/// A provider of one blob.
pub fn provider_of(bytes: &[u8]) -> StoreProvider {
    let store = MemoryStore::default();
    let mut ingester = store.ingest(Expected::default()).expect("ingest");
    ingester.write_all(bytes).expect("write");
    ingester.commit().expect("commit");
    StoreProvider(Arc::new(store))
}

type Outcome = (Result<Pushed, Error>, Mock);

/// Pushes one blob of `size` bytes to a registry, in each of the rounds with other bytes. The script is
/// given how many requests of the same method there were before. What was pushed must be there.
async fn pushes_of(
    size: usize,
    limits: Limits,
    mount_from: &[String],
    fault: impl Fn(usize, &Request) -> Option<Reply> + Send + Sync + Copy + 'static,
) -> Vec<Outcome> {
    let round = async |round: usize| {
        let bytes = noise(round as u64, size);
        let counts: [AtomicUsize; 5] = Default::default();
        let mock = Mock::start(move |request| {
            let methods = ["HEAD", "GET", "POST", "PATCH", "PUT"];
            let at = methods.iter().position(|method| *method == request.method).expect("a method");
            fault(counts[at].fetch_add(1, Ordering::SeqCst), request)
        })
        .await;
        mock.add_blob("from/b", &bytes);
        let registries = registries(limits.clone());
        let name = format!("{}/a/b", mock.host());
        let repository = repository(&registries, &name, Access::Push);
        let (blob, source) = (layer(&bytes), provider_of(&bytes));
        let sent = Arc::new(AtomicU64::new(0));
        let told = sent.clone();
        let progress = move |bytes| told.store(bytes, Ordering::SeqCst);
        let result = repository.push_blob(&blob, &source, mount_from, progress).await;
        match &result {
            Ok(pushed) => {
                assert!(mock.blob("a/b", blob.digest.as_str()) == Some(bytes));
                let expect = if *pushed == Pushed::Uploaded { size as u64 } else { 0 };
                assert_eq!(sent.load(Ordering::SeqCst), expect);
                // Once more is no work.
                let again = repository.push_blob(&blob, &source, &[], |_| {}).await;
                assert!(matches!(again, Ok(Pushed::Existed)), "{again:?}");
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("127.0.0.1") && !text.contains('\n'), "{text}");
                assert!(mock.requests().len() <= 30, "{}: {text}", mock.requests().len());
            }
        }
        (result, mock)
    };
    join_all((0..rounds()).map(round)).await
}

async fn pushes(
    limits: Limits,
    fault: impl Fn(usize, &Request) -> Option<Reply> + Send + Sync + Copy + 'static,
) -> Vec<Outcome> {
    pushes_of(SIZE, limits, &[], fault).await
}

fn all_well(outcomes: Vec<Outcome>, expect: Pushed) {
    for (result, _) in outcomes {
        assert_eq!(result.expect("pushed"), expect);
    }
}

fn all_fail(outcomes: Vec<Outcome>, kind: Kind, text: &str) {
    for (result, mock) in outcomes {
        let error = result.expect_err("cannot be pushed");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(mock.count("POST", "/uploads/") <= 5, "{error}");
    }
}

fn only(wanted: bool, reply: Reply) -> Option<Reply> {
    wanted.then_some(reply)
}

#[tokio::test]
async fn b_17_server_errors_pass_or_are_told() {
    for status in [500, 502, 503, 504, 429, 408] {
        for method in ["HEAD", "POST", "PUT"] {
            let outcomes = pushes(limits(), move |at, request| {
                only(request.method == method && at < 2, Reply::new(status).header("Retry-After", "0"))
            });
            all_well(outcomes.await, Pushed::Uploaded);
        }
        let outcomes = pushes(limits(), move |_, request| {
            only(request.method == "PUT", Reply::new(status).header("X-Request-Id", "r-1").body("busy"))
        });
        all_fail(outcomes.await, Kind::Unavailable, ": busy (request r-1)");
    }
}

#[tokio::test]
async fn b_17_broken_connections() {
    for method in ["HEAD", "POST", "PUT"] {
        let outcomes = pushes(limits(), move |at, request| {
            only(request.method == method && at < 3, Reply::new(200).end(End::Silent))
        });
        all_well(outcomes.await, Pushed::Uploaded);
        let outcomes = pushes(limits(), move |_, request| {
            only(request.method == method, Reply::new(200).end(End::Silent))
        });
        all_fail(outcomes.await, Kind::Unavailable, &format!("{method} blob"));
    }
}

#[tokio::test]
async fn b_17_nothing_and_little() {
    for size in [0, 1] {
        all_well(pushes_of(size, limits(), &[], |_, _| None).await, Pushed::Uploaded);
    }
}

#[tokio::test]
async fn b_17_stalls_end() {
    for method in ["HEAD", "POST", "PUT"] {
        let outcomes = pushes(impatient(), move |at, request| {
            only(request.method == method && at < 1, Reply::new(200).end(End::Hang))
        });
        all_well(outcomes.await, Pushed::Uploaded);
    }
    let outcomes =
        pushes(impatient(), move |_, request| only(request.method == "PUT", Reply::new(200).end(End::Hang)));
    all_fail(outcomes.await, Kind::DeadlineExceeded, "no answer within 0.3 s");
}

#[tokio::test]
async fn b_17_too_large_at_once() {
    // More than a piece: the registry gets it in pieces.
    let size = 17 << 20;
    let fault = |_: usize, request: &Request| only(request.body.len() > 16 << 20, Reply::new(413));
    let outcomes = pushes_of(size, Limits { tries: 2, ..limits() }, &[], fault);
    for (result, mock) in outcomes.await {
        assert_eq!(result.expect("pushed"), Pushed::Uploaded);
        assert_eq!((mock.count("PATCH", "/uploads/"), mock.count("PUT", "/uploads/")), (2, 2));
    }
    let outcomes =
        pushes(limits(), |_, request| only(request.method == "PUT", Reply::new(413).body("too large")));
    all_fail(outcomes.await, Kind::ResourceExhausted, "413 Payload Too Large: too large");
}

#[tokio::test]
async fn b_17_no_place_to_upload_to() {
    let outcomes = pushes(limits(), |at, request| only(request.method == "POST" && at < 2, Reply::new(202)));
    all_well(outcomes.await, Pushed::Uploaded);
    let outcomes = pushes(limits(), |_, request| only(request.method == "POST", Reply::new(202)));
    all_fail(outcomes.await, Kind::Unavailable, "202 without a place to upload to");
    for location in ["ftp://127.0.0.1/x", "http://[::", "http://user:pass@127.0.0.1/x"] {
        let outcomes = pushes(limits(), move |_, request| {
            only(request.method == "POST", Reply::new(202).header("Location", location))
        });
        for (result, mock) in outcomes.await {
            let error = result.expect_err("no place");
            assert!(!error.to_string().contains("pass@"), "{error}");
            assert_eq!(mock.count("PUT", ""), 0);
        }
    }
}

#[tokio::test]
async fn b_17_the_upload_is_lost() {
    for status in [404, 416] {
        let outcomes =
            pushes(limits(), move |at, request| only(request.method == "PUT" && at < 2, Reply::new(status)));
        for (result, mock) in outcomes.await {
            assert_eq!(result.expect("pushed"), Pushed::Uploaded);
            assert_eq!(mock.count("POST", "/uploads/"), 3);
        }
        let outcomes = pushes(limits(), move |_, request| only(request.method == "PUT", Reply::new(status)));
        all_fail(outcomes.await, Kind::Unavailable, &status.to_string());
    }
    // What the registry does not want at all is not tried again.
    let outcomes = pushes(limits(), |_, request| only(request.method == "PUT", Reply::new(400)));
    for (result, mock) in outcomes.await {
        assert_eq!(result.expect_err("refused").kind(), Kind::InvalidArgument);
        assert_eq!(mock.count("PUT", "/uploads/"), 1);
    }
}

#[tokio::test]
async fn b_17_uploads_are_resumed() {
    // The registry has a part of it when the connection breaks.
    let has = 100_000;
    let outcomes = pushes(limits(), move |at, request| match request.method.as_str() {
        "PUT" if at == 0 => Some(Reply::new(201).end(End::Silent)),
        "GET" if at == 0 => Some(
            Reply::new(204)
                .header("Location", format!("{}?state=9", request.path))
                .header("Range", format!("0-{}", has - 1)),
        ),
        "PATCH" => {
            assert_eq!(request.header("content-range"), Some("100000-299999"));
            assert_eq!((request.body.len(), request.query.as_str()), (200_000, "state=9"));
            Some(Reply::new(202).header("Range", "0-299999"))
        }
        // The mock has none of it: what counts is what it was sent.
        "PUT" => {
            assert!(request.body.is_empty() && request.query.starts_with("state=9&digest=sha256%3A"));
            Some(Reply::new(418))
        }
        _ => None,
    });
    all_fail(outcomes.await, Kind::InvalidArgument, "418");
    // What it says to have is more than there is, or not what it has: from the beginning.
    for range in ["0-999999999", "5-7", "x", "0-18446744073709551615", "0-0", "0-100"] {
        let outcomes = pushes(limits(), move |at, request| match request.method.as_str() {
            "PUT" if at == 0 => Some(Reply::new(201).end(End::Silent)),
            "GET" if at == 0 => Some(Reply::new(204).header("Range", range)),
            _ => None,
        });
        for (result, mock) in outcomes.await {
            assert_eq!(result.expect("pushed"), Pushed::Uploaded, "{range}");
            assert_eq!(mock.count("POST", "/uploads/"), 2);
        }
    }
}

#[tokio::test]
async fn b_17_mounts() {
    let from = ["from/b".to_owned()];
    all_well(pushes_of(SIZE, limits(), &from, |_, _| None).await, Pushed::Mounted);
    for status in [401, 403, 404, 405, 500] {
        let outcomes = pushes_of(SIZE, limits(), &from, move |_, request| {
            only(request.query.contains("mount="), Reply::new(status))
        });
        all_well(outcomes.await, Pushed::Uploaded);
    }
    // An upload instead of the mount.
    let absent = ["from/other".to_owned()];
    for (result, mock) in pushes_of(SIZE, limits(), &absent, |_, _| None).await {
        assert_eq!(result.expect("pushed"), Pushed::Uploaded);
        assert_eq!(mock.count("POST", "/uploads/"), 1);
    }
}

#[tokio::test]
async fn b_17_the_source_fails() {
    let mock = Mock::start(NO_SCRIPT).await;
    let registries = registries(limits());
    let repository = repository(&registries, &format!("{}/a/b", mock.host()), Access::Push);
    let blob = layer(b"not there");
    let error = repository.push_blob(&blob, &provider_of(b"other"), &[], |_| {}).await.expect_err("absent");
    assert!(matches!(error, Error::Source { .. }), "{error}");
    // It ends early.
    let bytes = noise(1, SIZE);
    struct Short(StoreProvider);
    #[async_trait::async_trait]
    impl buildkit_util_contentutil::Provider for Short {
        async fn read(
            &self,
            blob: &Descriptor,
            _: u64,
        ) -> Result<buildkit_util_contentutil::BlobStream, buildkit_util_contentutil::Error> {
            self.0.read(blob, 1000).await
        }
    }
    let short = Short(provider_of(&bytes));
    let error = repository.push_blob(&layer(&bytes), &short, &[], |_| {}).await.expect_err("short");
    assert!(matches!(error, Error::Source { .. }), "{error}");
    assert!(error.to_string().contains("PUT blob") && error.to_string().contains("size"), "{error}");
    assert_eq!(mock.count("POST", "/uploads/"), 2);
}

/// Pushes a manifest to a registry, in each of the rounds.
async fn manifests(
    fault: impl Fn(usize, &Request) -> Option<Reply> + Send + Sync + Copy + 'static,
) -> Vec<(Result<(), Error>, Mock)> {
    let round = async |_: usize| {
        let count = AtomicUsize::new(0);
        let mock = Mock::start(move |request| {
            let at = if request.method == "PUT" { count.fetch_add(1, Ordering::SeqCst) } else { 0 };
            fault(at, request)
        })
        .await;
        let registries = registries(limits());
        let repository = repository(&registries, &format!("{}/a/b", mock.host()), Access::Push);
        let bytes = manifest();
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        let result = repository.push_manifest(&descriptor, bytes.clone().into(), Some("v1")).await;
        if result.is_ok() {
            assert_eq!(mock.manifest("a/b", "v1"), Some(bytes.clone()));
            // Again is no request that changes something.
            let count = mock.count("PUT", "");
            repository.push_manifest(&descriptor, bytes.into(), Some("v1")).await.expect("there");
            assert_eq!(mock.count("PUT", ""), count);
        }
        (result, mock)
    };
    join_all((0..rounds()).map(round)).await
}

#[tokio::test]
async fn b_17_manifests() {
    for status in [409, 429, 500, 503] {
        for (result, mock) in manifests(move |at, request| {
            only(request.method == "PUT" && at < 4, Reply::new(status).header("Retry-After", "0"))
        })
        .await
        {
            result.expect("pushed");
            assert_eq!(mock.count("PUT", ""), 5);
        }
        for (result, mock) in
            manifests(move |_, request| only(request.method == "PUT", Reply::new(status))).await
        {
            let error = result.expect_err("never");
            assert!(error.to_string().contains(&status.to_string()), "{error}");
            assert_eq!(mock.count("PUT", ""), 5);
        }
    }
    for (result, mock) in
        manifests(|at, request| only(request.method == "PUT" && at < 2, Reply::new(201).end(End::Silent)))
            .await
    {
        result.expect("pushed");
        assert_eq!(mock.count("PUT", ""), 3);
    }
    for status in [400, 401, 403, 404, 413, 415] {
        for (result, mock) in
            manifests(move |_, request| only(request.method == "PUT", Reply::new(status).body("no"))).await
        {
            assert!(result.expect_err("refused").to_string().contains("no"));
            assert_eq!(mock.count("PUT", ""), 1);
        }
    }
    // The registry stored something else.
    for (result, _) in manifests(|_, request| {
        let other = Descriptor::of("x", b"other").digest.to_string();
        only(request.method == "PUT", Reply::new(201).header("Docker-Content-Digest", other))
    })
    .await
    {
        assert!(result.expect_err("another").to_string().contains("the registry stored sha256:"));
    }
    // What is not what it says is not sent.
    let mock = Mock::start(NO_SCRIPT).await;
    let registries = registries(limits());
    let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest());
    for access in [Access::Pull, Access::Push] {
        let repository = repository(&registries, &format!("{}/a/b", mock.host()), access);
        let error = repository.push_manifest(&descriptor, "x".into(), None).await.expect_err("refused");
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    }
    assert!(mock.requests().is_empty());
}
