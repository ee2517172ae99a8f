//! Dates of builds that are those of their sources.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use crate::fake::{FakeClient, Given};
use buildkit_frontend_dockerfile_builder::DockerfileFrontend;
use buildkit_frontend_gateway_client::{BuildFunction as _, GitMeta, HttpMeta, MetaResponse};
use buildkit_util_archive::{Header, Time, Writer, kind};
use buildkit_util_cachedigest::Digest;
use buildkit_util_compression::{Compression, Config, Encoder};
use bytes::Bytes;

const COMMIT: &[u8] = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@x> 5 +0000\n\
                        committer C <c@x> 1700000000 +0100\n\nfirst\n";

/// What the date is said to be, where it is looked for, and what was asked of which source.
async fn date(given: Given, of: &str, context: &str) -> (Option<String>, Vec<String>) {
    let opts = [
        ("build-arg:SOURCE_DATE_EPOCH", of),
        ("context", context),
        ("context:named", "https://x.y/named"),
        ("context:dir", "local:dir"),
    ];
    let opts = opts.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let client = FakeClient::new(Given { opts: opts.into(), ..given });
    let result =
        DockerfileFrontend.build(client.clone()).await.map_err(|error| error.message).expect("a build");
    let date =
        result.metadata.get("source.date.epoch").map(|date| String::from_utf8_lossy(date).into_owned());
    let asked = client.asked.lock();
    let asked = asked.sources.iter().map(|(source, request)| {
        format!("{} {} {}", source.identifier, request.log_name, request.git_objects)
    });
    (date, asked.collect())
}

fn file() -> Bytes {
    "FROM scratch\nCOPY a /\nFROM scratch AS remote\nARG V=1\nADD https://x.y/$V.tar /\nFROM scratch\nCOPY a /\n".into()
}

fn git() -> Given {
    let git = GitMeta { commit_object: Bytes::from_static(COMMIT), ..GitMeta::default() };
    let meta = Some(MetaResponse { git: Some(git), ..MetaResponse::default() });
    Given { dockerfile: file(), meta, ..Given::default() }
}

fn http(last_modified: Option<u64>, content: Vec<u8>, name: &str) -> Given {
    let last_modified = last_modified.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let http = HttpMeta { checksum: Digest::sha256(b""), filename: "f".to_owned(), last_modified };
    let meta = Some(MetaResponse { http: Some(http), ..MetaResponse::default() });
    let files = BTreeMap::from([(name.to_owned(), content.into())]);
    Given { dockerfile: file(), meta, files, ..Given::default() }
}

/// An archive whose newest file is not its newest entry, and which is read in several pieces.
fn archive() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, kind, seconds, size) in [
        ("old", kind::REGULAR, 5, 10 << 20),
        ("new", kind::REGULAR, 1_600_000_000, 3),
        ("dir", kind::DIRECTORY, 1_800_000_000, 0),
    ] {
        let header = Header {
            kind,
            name: name.into(),
            size,
            mode: 0o755,
            mtime: Some(Time::from_seconds(seconds)),
            ..Header::default()
        };
        writer.entry(&header).expect("a header");
        writer.content(&vec![7; usize::try_from(size).expect("a size")]).expect("content");
    }
    writer.finish().expect("an end")
}

fn compressed(content: &[u8]) -> Vec<u8> {
    let config = Config { kind: Compression::Gzip, ..Config::default() };
    let mut encoder = Encoder::new(config, Vec::new()).expect("an encoder");
    encoder.write_all(content).expect("is compressed");
    encoder.finish().expect("an end")
}

#[tokio::test]
async fn commits_date_builds() {
    let title = "[internal] resolve main build context metadata";
    let (found, asked) = date(git(), "context", "https://x.y/repo.git#main").await;
    assert_eq!(found.as_deref(), Some("1700000000"));
    assert_eq!(asked, [format!("git://x.y/repo.git#main {title} true")]);
}

#[tokio::test]
async fn servers_date_builds() {
    let named = "https://x.y/named [internal] resolve SOURCE_DATE_EPOCH named context named false";
    let (found, asked) = date(http(Some(7), Vec::new(), "context"), "named", "").await;
    assert_eq!((found.as_deref(), asked), (Some("7"), vec![named.to_owned()]));
    let stage = "https://x.y/1.tar [internal] resolve SOURCE_DATE_EPOCH source stage remote false";
    let (found, asked) = date(http(Some(8), Vec::new(), "1.tar"), "remote", "").await;
    assert_eq!((found.as_deref(), asked), (Some("8"), vec![stage.to_owned()]));
}

#[tokio::test]
async fn archives_date_builds() {
    let mut compressed = compressed(&archive());
    assert_eq!(date(http(None, archive(), "context"), "named", "").await.0.as_deref(), Some("1600000000"));
    assert_eq!(
        date(http(None, compressed.clone(), "1.tar"), "remote", "").await.0.as_deref(),
        Some("1600000000")
    );
    // What is no archive, or is damaged, has no date.
    compressed.truncate(compressed.len() / 2);
    for content in [b"no archive".to_vec(), Vec::new(), compressed, archive()[..5 << 20].to_vec()] {
        assert_eq!(date(http(None, content, "context"), "named", "").await.0, None);
    }
}

#[tokio::test]
async fn nothing_is_known_of_files_of_clients() {
    for of in ["context", "dir"] {
        let (found, asked) = date(git(), of, "").await;
        assert_eq!((found, asked.len()), (None, 0), "{of}");
    }
}
