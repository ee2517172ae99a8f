//! Registries that break while something is pulled (B-16).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_util_contentutil::read_all;
use buildkit_util_ocispec::{Descriptor, media_type};
use buildkit_util_resolver::{Access, Limits};
use futures::future::join_all;

use crate::support::{
    End, Mock, NO_SCRIPT, Reply, Request, impatient, limits, manifest, noise, registries, repository, rounds,
};

const SIZE: usize = 300_000;

/// Pulls one blob from a registry whose first answers with it a script makes, in each of the rounds with
/// other bytes. What came must be the blob, or an error; the requests are counted.
async fn pulls(
    limits: Limits,
    fault: impl Fn(usize, usize, &Request, &[u8]) -> Option<Reply> + Send + Sync + Copy + 'static,
) -> Vec<(Result<(), String>, Kind, usize)> {
    let round = async |round: usize| {
        let bytes = Arc::new(noise(round as u64, SIZE));
        let count = Arc::new(AtomicUsize::new(0));
        let content = bytes.clone();
        let mock = Mock::start(move |request| {
            if !request.is("GET", "/blobs/") {
                return None;
            }
            fault(round, count.fetch_add(1, Ordering::SeqCst), request, &content)
        })
        .await;
        let blob = mock.add_blob("a/b", &bytes);
        let registries = registries(limits.clone());
        let name = format!("{}/a/b", mock.host());
        let provider = repository(&registries, &name, Access::Pull).provider();
        let result = read_all(&*provider, &blob).await;
        let kind = result.as_ref().err().map_or(Kind::Unknown, |error| error.kind());
        let result = result.map(|got| assert!(got == *bytes)).map_err(|error| {
            let text = error.to_string();
            assert!(!text.contains('\n'), "{text}");
            text
        });
        (result, kind, mock.count("GET", "/blobs/"))
    };
    join_all((0..rounds()).map(round)).await
}

fn all_well(outcomes: Vec<(Result<(), String>, Kind, usize)>, requests: usize) {
    for (result, _, count) in outcomes {
        assert_eq!(result, Ok(()));
        assert_eq!(count, requests);
    }
}

fn all_fail(outcomes: Vec<(Result<(), String>, Kind, usize)>, kind: Kind, text: &str, requests: usize) {
    for (result, found, count) in outcomes {
        let error = result.expect_err("the blob is not to be had");
        assert_eq!(found, kind, "{error}");
        assert!(error.contains(text) && error.contains("127.0.0.1"), "{error}");
        assert_eq!(count, requests, "{error}");
    }
}

/// The blob from where the request asks for it.
fn rest<'a>(request: &Request, bytes: &'a [u8]) -> (usize, &'a [u8]) {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    let start = range.map_or(0, |range| range.trim_end_matches('-').parse().expect("a range"));
    (start, &bytes[start..])
}

fn partial(request: &Request, bytes: &[u8]) -> Reply {
    let (start, part) = rest(request, bytes);
    let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    let status = if start > 0 { 206 } else { 200 };
    Reply::new(status).header("Content-Range", range).body(part)
}

#[tokio::test]
async fn b_16_server_errors_pass_or_are_told() {
    for status in [500, 502, 503, 504, 408] {
        let outcomes = pulls(limits(), move |_, at, _, _| (at < 4).then(|| Reply::new(status))).await;
        all_well(outcomes, 5);
        let outcomes = pulls(limits(), move |_, _, _, _| {
            Some(Reply::new(status).header("X-Request-Id", "r-17").body("down\nfor repair"))
        });
        all_fail(outcomes.await, Kind::Unavailable, ": down for repair (request r-17)", 5);
    }
}

#[tokio::test]
async fn new_tries_are_told() {
    let bytes = noise(1, SIZE);
    let count = AtomicUsize::new(0);
    let mock = Mock::start(move |request| {
        let is_down = request.is("GET", "/blobs/") && count.fetch_add(1, Ordering::SeqCst) < 2;
        is_down.then(|| Reply::new(503).body("down"))
    })
    .await;
    let blob = mock.add_blob("a/b", &bytes);
    let name = format!("{}/a/b", mock.host());
    let repository = repository(&registries(limits()), &name, Access::Pull);
    let (sender, told) = std::sync::mpsc::channel();
    let telling = repository.telling_retries(move |text| sender.send(text.to_owned()).expect("nobody left"));
    assert!(read_all(&*telling.provider(), &blob).await.expect("the third try") == bytes);
    let told: Vec<String> = told.try_iter().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for text in told {
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines[0].contains("503"), "{text}");
        assert!(lines[1].starts_with("retrying in ") && lines[1].ends_with('s'), "{text}");
        assert_eq!(lines.len(), 2, "{text}");
    }
}

#[tokio::test]
async fn b_16_too_many_requests_wait() {
    for after in ["0", "1000000000000", "Thu, 01 Jan 1970 00:00:00 GMT", "never"] {
        let outcomes = pulls(limits(), move |_, at, _, _| {
            (at < 3).then(|| Reply::new(429).header("Retry-After", after))
        });
        all_well(outcomes.await, 4);
    }
    let outcomes = pulls(limits(), |_, _, _, _| Some(Reply::new(429))).await;
    all_fail(outcomes, Kind::Unavailable, "429 Too Many Requests", 5);
}

#[tokio::test]
async fn b_16_broken_connections_are_resumed() {
    // Closed, reset, both at some byte of the body, also with what follows.
    for is_reset in [false, true] {
        let outcomes = pulls(limits(), move |round, at, request, bytes| {
            let place = (round * 7919 + at * 104_729) % (SIZE / 8);
            let end = if is_reset { End::Reset(place) } else { End::Cut(place) };
            (at < 4).then(|| partial(request, bytes).end(end))
        });
        all_well(outcomes.await, 5);
    }
    // Closed without a word.
    let outcomes = pulls(limits(), |_, at, _, _| (at < 4).then(|| Reply::new(200).end(End::Silent))).await;
    all_well(outcomes, 5);
    let outcomes = pulls(limits(), |_, _, _, _| Some(Reply::new(200).end(End::Silent))).await;
    all_fail(outcomes, Kind::Unavailable, "GET blob", 5);
    // A registry that gives nothing new is not asked for ever.
    let outcomes =
        pulls(limits(), |_, _, request, bytes| Some(partial(request, bytes).end(End::Cut(10)))).await;
    all_fail(outcomes, Kind::Unavailable, "GET blob", 5);
}

#[tokio::test]
async fn b_16_truncated_with_a_length_that_fits() {
    let outcomes = pulls(limits(), |round, at, request, bytes| {
        let (_, part) = rest(request, bytes);
        (at < 3).then(|| partial(request, bytes).body(&part[..part.len() / (round + 2)]))
    });
    all_well(outcomes.await, 4);
}

#[tokio::test]
async fn b_16_stalls_end() {
    let outcomes = pulls(impatient(), |_, at, request, bytes| {
        (at < 2).then(|| partial(request, bytes).end(End::Stall(50_000)))
    });
    all_well(outcomes.await, 3);
    let outcomes =
        pulls(impatient(), |_, _, request, bytes| Some(partial(request, bytes).end(End::Stall(0)))).await;
    all_fail(outcomes, Kind::DeadlineExceeded, "no more data within 0.3 s", 5);
}

#[tokio::test]
async fn b_16_slow_is_not_broken() {
    let outcomes = pulls(limits(), |_, at, request, bytes| {
        (at == 0).then(|| partial(request, bytes).end(End::Slow(SIZE / 100)))
    });
    all_well(outcomes.await, 1);
}

#[tokio::test]
async fn b_16_the_deadline_ends_it() {
    let short = std::time::Duration::from_millis(500);
    // Blobs have a share more for their size.
    let limits = Limits { total: short, tries: u32::MAX, backoff: short, max_backoff: short, ..limits() };
    let mock = Mock::start(|_| Some(Reply::new(503))).await;
    let registries = registries(limits);
    let name = format!("{}/a/b", mock.host());
    let error = repository(&registries, &name, Access::Pull).resolve().await.expect_err("broken");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(mock.requests().len() < 10, "{}", mock.requests().len());
}

#[tokio::test]
async fn b_16_wrong_bytes_are_no_blob() {
    // More than there should be.
    let outcomes =
        pulls(limits(), |_, _, request, bytes| Some(partial(request, bytes).body([bytes, b"more"].concat())));
    all_fail(outcomes.await, Kind::FailedPrecondition, "the answer has 300004 bytes", 1);
    // Others.
    for (result, kind, count) in pulls(limits(), |_, _, request, bytes| {
        let mut other = bytes.to_vec();
        other[SIZE / 2] ^= 1;
        Some(partial(request, &other))
    })
    .await
    {
        assert!(result.expect_err("other bytes").contains("digest"));
        assert_eq!((kind, count), (Kind::FailedPrecondition, 1));
    }
    // Packed, without having been asked for.
    let outcomes = pulls(limits(), |_, _, request, bytes| {
        Some(partial(request, bytes).header("Content-Encoding", "gzip"))
    });
    all_fail(outcomes.await, Kind::FailedPrecondition, "encoded with gzip", 1);
}

#[tokio::test]
async fn b_16_ranges_ignored_or_wrong() {
    // All again: what is known already is passed over.
    let outcomes = pulls(limits(), |_, at, _, bytes| match at {
        0 => Some(Reply::new(200).body(bytes).end(End::Cut(100_000))),
        _ => Some(Reply::new(200).body(bytes)),
    });
    all_well(outcomes.await, 2);
    // From somewhere before.
    let outcomes = pulls(limits(), |_, at, _, bytes| match at {
        0 => Some(Reply::new(200).body(bytes).end(End::Cut(100_000))),
        _ => Some(Reply::new(206).header("Content-Range", "bytes 10-299999/300000").body(&bytes[10..])),
    });
    all_well(outcomes.await, 2);
    for range in ["bytes 299999-299999/300000", "bytes x", "", "bytes 18446744073709551616-/1"] {
        let outcomes = pulls(limits(), move |_, at, _, bytes| match at {
            0 => Some(Reply::new(200).body(bytes).end(End::Cut(100_000))),
            _ => Some(Reply::new(206).header("Content-Range", range).body(bytes)),
        });
        all_fail(outcomes.await, Kind::FailedPrecondition, "asked for what follows byte", 2);
    }
    let outcomes = pulls(limits(), |_, at, _, bytes| match at {
        0 => Some(Reply::new(200).body(bytes).end(End::Cut(100_000))),
        _ => Some(Reply::new(416)),
    });
    all_fail(outcomes.await, Kind::InvalidArgument, "416", 2);
}

#[tokio::test]
async fn b_16_redirects_end() {
    let outcomes =
        pulls(limits(), |_, _, request, _| Some(Reply::new(307).header("Location", request.path.clone())));
    all_fail(outcomes.await, Kind::FailedPrecondition, "stopped after 10 redirects", 11);
    for location in ["", "http://", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://user:pass@127.0.0.1/"]
    {
        let outcomes = pulls(limits(), move |_, _, _, _| Some(Reply::new(302).header("Location", location)));
        for (result, _, count) in outcomes.await {
            let error = result.expect_err("no redirect");
            assert!(!error.contains("pass@"), "{error}");
            // An empty one leads to where it comes from.
            assert!(count == 1 || location.is_empty(), "{error}");
        }
    }
    // One that leads somewhere.
    let outcomes = pulls(limits(), |_, at, request, _| {
        (at == 0).then(|| Reply::new(307).header("Location", format!("{}?sig=1", request.path)))
    });
    all_well(outcomes.await, 2);
}

#[tokio::test]
async fn b_16_asking_for_credentials_ends() {
    for challenge in [r#"Bearer realm="http://127.0.0.1:1/t",service="x""#, "Basic", "Digest x=y", ""] {
        let outcomes = pulls(limits(), move |_, _, _, _| {
            Some(
                Reply::new(401)
                    .header("WWW-Authenticate", challenge)
                    .body(r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
            )
        });
        for (result, _, count) in outcomes.await {
            let error = result.expect_err("nobody has a token");
            assert!(count <= 3, "{count}: {error}");
        }
    }
}

/// Resolves a tag of a registry, in each of the rounds.
async fn resolves(
    fault: impl Fn(&Request, &[u8]) -> Option<Reply> + Send + Sync + Copy + 'static,
) -> Vec<Result<Descriptor, String>> {
    let round = async |_: usize| {
        let bytes = manifest();
        let content = bytes.clone();
        let mock = Mock::start(move |request| fault(request, &content)).await;
        mock.add_manifest("a/b", "v1", &bytes);
        let registries = registries(limits());
        let name = format!("{}/a/b:v1", mock.host());
        let repository = repository(&registries, &name, Access::Pull);
        let resolved = repository.resolve().await.map_err(|error| error.to_string())?;
        assert_eq!(resolved.host, mock.host());
        // What was resolved can be had.
        repository.manifest(&resolved.descriptor).await.map_err(|error| error.to_string())?;
        assert!(mock.requests().len() <= 10, "{}", mock.requests().len());
        Ok(resolved.descriptor)
    };
    join_all((0..rounds()).map(round)).await
}

#[tokio::test]
async fn b_16_head_and_get_differ() {
    let right = Descriptor::of(media_type::OCI_MANIFEST, &manifest());
    // Headers that say nothing, and registries that know no HEAD.
    type Script = fn(&Request, &[u8]) -> Option<Reply>;
    let scripts: [Script; 5] = [
        |_, _| None,
        |request, _| (request.method == "HEAD").then(|| Reply::new(405)),
        |request, bytes| {
            let reply = Reply::new(200).header("Content-Type", "text/plain").body(bytes);
            (request.method == "HEAD" || request.path.ends_with("v1")).then_some(reply)
        },
        |request, bytes| {
            let reply = Reply::new(200).header("Content-Type", media_type::OCI_MANIFEST).body(bytes);
            (request.method == "HEAD" || request.path.ends_with("v1")).then_some(reply)
        },
        |request, _| (request.method == "HEAD").then(|| Reply::new(403)),
    ];
    for (at, script) in scripts.into_iter().enumerate() {
        for resolved in resolves(script).await {
            assert_eq!(resolved.as_ref(), Ok(&right), "{at}");
        }
    }
    // A HEAD about something else: what comes is not what it said.
    for resolved in resolves(|request, _| {
        (request.method == "HEAD").then(|| {
            Reply::new(200)
                .header("Content-Type", media_type::OCI_MANIFEST)
                .header("Docker-Content-Digest", Descriptor::of("x", b"other").digest.to_string())
                .header("Content-Length", "99")
        })
    })
    .await
    {
        let error = resolved.expect_err("another digest");
        assert!(error.contains("404"), "{error}");
    }
    for resolved in resolves(|request, bytes| {
        let mut other = bytes.to_vec();
        other.push(b' ');
        (request.method == "GET").then(|| Reply::new(200).body(other))
    })
    .await
    {
        let error = resolved.expect_err("other bytes");
        assert!(error.contains("GET manifest"), "{error}");
    }
}

#[tokio::test]
async fn b_16_wrong_media_types() {
    for (kind, text) in [
        (media_type::DOCKER_SCHEMA1, "prettyjws"),
        ("application/vnd.oci.image.layer.v1.tar", ""),
        ("application/json; charset=utf-8", ""),
    ] {
        let kind: &'static str = kind;
        for resolved in resolves(move |_, bytes| {
            Some(
                Reply::new(200)
                    .header("Content-Type", kind)
                    .header("Docker-Content-Digest", Descriptor::of("x", bytes).digest.to_string())
                    .body(bytes),
            )
        })
        .await
        {
            match resolved {
                // The document says what it is.
                Ok(found) => assert_eq!((found.media_type.as_str(), text), (media_type::OCI_MANIFEST, "")),
                Err(error) => assert!(!text.is_empty() && error.contains(text), "{error}"),
            }
        }
    }
    for resolved in resolves(|_, _| Some(Reply::new(200).header("Content-Type", "x/y").body("{}"))).await {
        let error = resolved.expect_err("no manifest");
        assert!(error.contains("unsupported media type"), "{error}");
    }
}

#[tokio::test]
async fn a2_13_endless_answers() {
    let length = (9u64 << 20).to_string();
    let mock = Mock::start(move |request| match request.path.as_str() {
        "/v2/a/b/manifests/endless" if request.method == "HEAD" => Some(Reply::new(405)),
        "/v2/a/b/manifests/large" => Some(
            Reply::new(200)
                .header("Content-Type", media_type::OCI_MANIFEST)
                .header("Docker-Content-Digest", Descriptor::of("x", b"").digest.to_string())
                .header("Content-Length", length.clone()),
        ),
        "/v2/a/b/manifests/wordy" => Some(Reply::new(400).end(End::Endless)),
        "/v2/t/t/manifests/token" => {
            let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").expect("a host"));
            Some(Reply::new(401).header("WWW-Authenticate", realm))
        }
        _ => Some(Reply::new(200).end(End::Endless)),
    })
    .await;
    let registries = registries(limits());
    let resolve = async |name: &str| {
        let name = format!("{}/{name}", mock.host());
        repository(&registries, &name, Access::Pull).resolve().await.expect_err(&name).to_string()
    };
    assert!(resolve("a/b:endless").await.contains("more than the 8388608 bytes"));
    assert!(resolve("a/b:large").await.contains("has 9437184 bytes"));
    assert!(resolve("a/b:wordy").await.ends_with("400 Bad Request"));
    assert!(resolve("t/t:token").await.contains("more than the 1048576 bytes"));
    // Descriptors of others bound what is read too.
    let repository = repository(&registries, &format!("{}/a/b", mock.host()), Access::Pull);
    let small = Descriptor::of(media_type::OCI_MANIFEST, b"x");
    let error = repository.manifest(&small).await.expect_err("endless");
    assert!(error.to_string().contains("more than the 1 bytes"), "{error}");
    let vast = Descriptor { size: 4 << 30, ..small.clone() };
    let error = repository.manifest(&vast).await.expect_err("vast");
    assert!(error.to_string().contains("has 4294967296 bytes"), "{error}");
    let error = repository.referrers(&small.digest).await.expect_err("endless");
    assert!(error.to_string().contains("more than the 8388608 bytes"), "{error}");
    let blob = crate::support::layer(b"12345");
    let error = read_all(&*repository.provider(), &blob).await.expect_err("endless");
    assert!(error.to_string().contains("larger than its 5 bytes"), "{error}");
    let huge = Descriptor { size: u64::MAX, ..blob };
    let error = repository.provider().read(&huge, u64::MAX).await.err();
    assert!(error.is_none_or(|error| error.to_string().contains("127.0.0.1")));
}

#[tokio::test]
async fn a2_16_bad_digests_are_not_asked_for() {
    let mock = Mock::start(NO_SCRIPT).await;
    let registries = registries(limits());
    let name = format!("{}/a/b", mock.host());
    let repository = repository(&registries, &name, Access::Push);
    for digest in ["md5:d41d8cd98f00b204e9800998ecf8427e", "x-y:z", &format!("sha512:{}", "a".repeat(128))] {
        let digest = buildkit_util_cachedigest::Digest::parse(digest).expect("has the form of one");
        let blob = Descriptor::new(media_type::OCI_LAYER, digest.clone(), 1);
        let manifest = Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), 1);
        let errors = [
            repository.manifest(&manifest).await.expect_err("refused"),
            repository.exists(&blob).await.expect_err("refused"),
            repository.referrers(&digest).await.expect_err("refused"),
            repository.push_manifest(&manifest, "x".into(), None).await.expect_err("refused"),
        ];
        for error in errors {
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
        }
        assert!(repository.provider().read(&blob, 0).await.is_err());
    }
    assert!(mock.requests().is_empty(), "{:?}", mock.requests());
    // Those that a registry sends are checked as well.
    for digest in ["sha256:../../x", "md5:", "sha256:AB", "sha256:/", "sha512:x"] {
        let digest = digest.to_owned();
        let mock = Mock::start(move |_| {
            Some(
                Reply::new(200)
                    .header("Docker-Content-Digest", digest.clone())
                    .header("Content-Type", media_type::OCI_MANIFEST)
                    .body(manifest()),
            )
        })
        .await;
        let name = format!("{}/a/b", mock.host());
        let error =
            crate::support::repository(&registries, &name, Access::Pull).resolve().await.expect_err("bad");
        assert!(error.to_string().contains("not a valid digest") || error.kind() == Kind::InvalidArgument);
        assert_eq!(mock.requests().len(), 1);
    }
}
