//! Stores over a real session: what arrives, and what does not.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_session_content::SessionContent;
use buildkit_session_pb::content::{
    AbortRequest, DeleteContentRequest, InfoRequest, ListContentRequest, ListStatusesRequest,
    ReadContentRequest, StatusRequest, UpdateRequest, WriteAction,
};
use buildkit_session_testutil::SessionPair;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{
    BlobStream, ContentStore, Error, LayoutStore, MemoryStore, Provider, StoreProvider, fetch, read_all,
};
use buildkit_util_ocispec::Descriptor;
use bytes::Bytes;
use tonic::Code;

use common::{Call, add, content, open, raw, request, stored};

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_read_from_the_store_that_is_named() {
    let (first, second) = (MemoryStore::default(), MemoryStore::default());
    let large = content(5 << 20);
    let (small, large) = (add(&first, b"hello"), add(&second, &large));
    let session = open([("oci:first", Arc::new(first) as _), ("local:/tmp/ä", Arc::new(second) as _)]).await;
    let of = |name: &str| SessionContent::of_caller(session.caller().clone(), name);

    assert_eq!(of("oci:first").info(&small.digest).await.expect("info").size, 5);
    assert_eq!(read_all(&of("oci:first"), &small).await.expect("reads"), "hello");
    assert_eq!(read_all(&of("local:/tmp/ä"), &large).await.expect("reads"), content(5 << 20));
    assert!(matches!(read_all(&of("oci:first"), &large).await, Err(Error::NotFound(_))));
    assert!(matches!(of("local:/tmp/ä").info(&small.digest).await, Err(Error::NotFound(_))));

    // Parts, up to an empty one at the end.
    let mut rest = of("oci:first").read(&small, 3).await.expect("reads");
    assert_eq!(futures::StreamExt::next(&mut rest).await.expect("a chunk").expect("bytes"), "lo");
    let mut none = of("oci:first").read(&small, 5).await.expect("reads");
    assert!(futures::StreamExt::next(&mut none).await.is_none());
    assert_eq!(of("oci:first").read(&small, 6).await.err().expect("too far").kind(), Kind::OutOfRange);

    // A descriptor that claims more than there is does not get less silently.
    let claimed = Descriptor::new("x", small.digest.clone(), 9);
    let error = read_all(&of("oci:first"), &claimed).await.expect_err("is shorter");
    assert!(error.to_string().ends_with("the last 4 bytes did not come"), "{error}");

    // That there is no such store is another thing than that it lacks a blob.
    let error = of("oci:third").info(&small.digest).await.expect_err("no store");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().ends_with("unknown store oci:third: not found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_searched_for_a_session_that_has_the_store() {
    let store = MemoryStore::default();
    let blob = add(&store, b"hello");
    let session = open([("oci:a", Arc::new(store) as _)]).await;
    let group = SessionGroup::new([session.caller().id().to_owned()]);
    let found = SessionContent::of_group(session.manager().clone(), group, "oci:a");
    assert_eq!(read_all(&found, &blob).await.expect("reads"), "hello");
    let none = SessionContent::of_group(SessionManager::new(), SessionGroup::default(), "oci:a");
    assert_eq!(none.info(&blob.digest).await.expect_err("nobody").kind(), Kind::Unavailable);
}

/// Counts how often it is asked, and from where.
struct Counted(StoreProvider, AtomicUsize, AtomicUsize);

impl Counted {
    fn of(store: &MemoryStore) -> Self {
        Self(StoreProvider(Arc::new(store.clone())), AtomicUsize::new(0), AtomicUsize::new(0))
    }
}

#[async_trait]
impl Provider for Counted {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.2.store(usize::try_from(offset).expect("small"), Ordering::SeqCst);
        self.0.read(blob, offset).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_written_once() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (source, target) = (MemoryStore::default(), LayoutStore::new(dir.path()));
    let session = open([("export", Arc::new(target.clone()) as _)]).await;
    let export = SessionContent::of_caller(session.caller().clone(), "export");
    for size in [0, 1, 1 << 20, (5 << 20) + 7] {
        let blob = add(&source, &content(size));
        let provider = Counted::of(&source);
        for _ in 0..2 {
            export.copy(&provider, &blob).await.expect("copies");
        }
        assert_eq!(provider.1.load(Ordering::SeqCst), 1, "what is there is not sent again");
        let stream = provider.read(&blob, 0).await.expect("reads");
        export.ingest(&blob, stream).await.expect("is there");
        assert_eq!(stored(&target, &blob.digest), content(size));
    }
    assert_eq!(target.list().expect("list").len(), 4);
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).expect("ingest").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_blob_transfer_it_once() {
    let (source, target) = (MemoryStore::default(), MemoryStore::default());
    let blob = add(&source, &content(6 << 20));
    let session = open([("export", Arc::new(target.clone()) as _)]).await;
    let provider = Arc::new(Counted::of(&source));
    let writers = (0..8).map(|_| {
        let export = SessionContent::of_caller(session.caller().clone(), "export");
        let (provider, blob) = (provider.clone(), blob.clone());
        async move { export.copy(&*provider, &blob).await }
    });
    for result in futures::future::join_all(writers).await {
        result.expect("copies");
    }
    assert_eq!(provider.1.load(Ordering::SeqCst), 1);
    assert_eq!(stored(&target, &blob.digest).len(), 6 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_blob_is_not_stored() {
    let target = MemoryStore::default();
    let session = open([("export", Arc::new(target.clone()) as _)]).await;
    let export = SessionContent::of_caller(session.caller().clone(), "export");
    let blob = Descriptor::of("x", b"hello");
    let lost = || Error::Io { action: "read".to_owned(), source: std::io::Error::other("lost") };
    type Items = Vec<Result<&'static [u8], ()>>;
    let cases: [(Items, Kind); 5] = [
        (vec![Ok(b"hellx")], Kind::FailedPrecondition),
        (vec![Ok(b"hel")], Kind::FailedPrecondition),
        (vec![Ok(b"hello!")], Kind::FailedPrecondition),
        (vec![], Kind::FailedPrecondition),
        (vec![Ok(b"hel"), Err(())], Kind::Unknown),
    ];
    for (items, kind) in cases {
        let items: Vec<_> =
            items.into_iter().map(|item| item.map(Bytes::from_static).map_err(|()| lost())).collect();
        let text = format!("{items:?}");
        let error = export.ingest(&blob, Box::pin(futures::stream::iter(items))).await.expect_err("is wrong");
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(target.list().expect("list").is_empty(), "{text}");
        let statuses = raw(&session).list_statuses(request("export", ListStatusesRequest::default())).await;
        assert!(statuses.expect("lists").into_inner().statuses.is_empty(), "{text}");
    }
    export
        .ingest(&blob, Box::pin(futures::stream::iter([Ok(Bytes::from_static(b"hello"))])))
        .await
        .expect("is it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_resumed_where_it_stopped_or_from_the_beginning() {
    let (source, target) = (MemoryStore::default(), MemoryStore::default());
    let session = open([("export", Arc::new(target.clone()) as _)]).await;
    let export = SessionContent::of_caller(session.caller().clone(), "export");
    for (beginning, asked, from) in [("hel", 1, 3), ("xxx", 2, 0)] {
        let blob = add(&source, format!("hello {from}").as_bytes());
        let name = blob.digest.to_string();
        let mut call = Call::open(&session, "export").await;
        call.stat(&name, 7, &name).await.expect("starts");
        call.write(0, beginning).await.expect("writes");
        // Nobody else may write it meanwhile.
        let mut other = Call::open(&session, "export").await;
        assert_eq!(other.stat(&name, 7, &name).await.expect_err("locked").code(), Code::Unavailable);
        let status = raw(&session).status(request("export", StatusRequest { r#ref: name.clone() })).await;
        let status = status.expect("is known").into_inner().status.expect("a status");
        assert_eq!((status.offset, status.total, &status.expected), (3, 7, &name));
        drop(call);

        let provider = Counted::of(&source);
        export.copy(&provider, &blob).await.expect("copies");
        assert_eq!(provider.1.load(Ordering::SeqCst), asked);
        assert_eq!(provider.2.load(Ordering::SeqCst), from);
        assert_eq!(stored(&target, &blob.digest), format!("hello {from}").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_keep_to_the_protocol() {
    let target = MemoryStore::default();
    let session = open([("export", Arc::new(target.clone()) as _)]).await;
    let digest = Digest::sha256("hello").to_string();
    let call = || Call::open(&session, "export");

    // No name; an offset that is not the end; more than was announced; an unknown action.
    assert_eq!(call().await.stat("", 5, "").await.expect_err("no name").code(), Code::InvalidArgument);
    let mut writer = call().await;
    assert_eq!(writer.stat("a", 5, "").await.expect("starts").offset, 0);
    assert_eq!(writer.write(0, "he").await.expect("writes").offset, 2);
    let error = writer.write(3, "lo").await.expect_err("leaves a hole");
    assert_eq!(
        (error.code(), error.message()),
        (Code::OutOfRange, "write @3 must occur at current offset 2")
    );
    let mut writer = call().await;
    assert_eq!(writer.stat("a", 5, "").await.expect("goes on").offset, 2);
    assert_eq!(writer.write(2, "llo!").await.expect_err("too much").code(), Code::FailedPrecondition);
    assert_eq!(
        call().await.send(7, "b", 0, "", 0, "").await.expect_err("what?").code(),
        Code::InvalidArgument
    );
    assert_eq!(call().await.write(-1, "x").await.expect_err("no name").code(), Code::InvalidArgument);

    // Writing at the beginning starts anew; what the commit says counts if nothing was said before.
    let mut writer = call().await;
    writer.stat("c", 0, "").await.expect("starts");
    assert_eq!(writer.write(0, "wrong").await.expect("writes").offset, 5);
    assert_eq!(writer.write(0, "hel").await.expect("writes").offset, 3);
    let commit: i32 = WriteAction::Commit.into();
    let done = writer.send(commit, "", 5, &digest, 3, "lo").await.expect("commits");
    assert_eq!((done.offset, &done.digest), (5, &digest));
    assert_eq!(stored(&target, &Digest::sha256("hello")), b"hello");

    // What is there is said to be, at the beginning and at the end.
    let error = call().await.stat("d", 5, &digest).await.expect_err("is there");
    assert_eq!(error.code(), Code::AlreadyExists);
    let mut writer = call().await;
    writer.stat("e", 0, "").await.expect("starts");
    let error = writer.send(commit, "", 5, &digest, 0, "hello").await.expect_err("is there");
    assert_eq!(error.code(), Code::AlreadyExists);

    // Wrong at the commit only, in size or digest.
    for (size, text) in [(4, "unexpected commit size 5, expected 4"), (5, "unexpected commit digest")] {
        let mut writer = call().await;
        writer.stat("f", 0, "").await.expect("starts");
        let other = Digest::sha256("other").to_string();
        let error = writer.send(commit, "", size, &other, 0, "world").await.expect_err("is wrong");
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.message().starts_with(text), "{error}");
    }

    // Aborted while it is written.
    let mut writer = call().await;
    writer.stat("g", 5, "").await.expect("starts");
    let abort = |name: &str| request("export", AbortRequest { r#ref: name.to_owned() });
    raw(&session).abort(abort("g")).await.expect("aborts");
    assert_eq!(writer.write(0, "x").await.expect_err("is aborted").code(), Code::Aborted);
    assert_eq!(raw(&session).abort(abort("g")).await.expect_err("twice").code(), Code::NotFound);
    assert_eq!(target.list().expect("list").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_under_way_are_bounded() {
    let session = open([("export", Arc::new(MemoryStore::default()) as _)]).await;
    for number in 0..100 {
        let mut call = Call::open(&session, "export").await;
        call.stat(&format!("ref {number}"), 0, "").await.expect("starts");
        call.write(0, "x").await.expect("writes");
        // The last one is let go when its call has ended on the other side.
        call.finish().await;
    }
    let statuses = raw(&session).list_statuses(request("export", ListStatusesRequest::default())).await;
    assert_eq!(statuses.expect("lists").into_inner().statuses.len(), 64);
    let mut call = Call::open(&session, "export").await;
    let error = call.stat(&"x".repeat(5000), 0, "").await.expect_err("is too long");
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_ends_reading_and_writing() {
    for is_silent in [false, true] {
        let (store, target) = (MemoryStore::default(), MemoryStore::default());
        let blob = add(&store, &content(8 << 20));
        let mut session = open([("a", Arc::new(store) as _), ("export", Arc::new(target) as _)]).await;
        let of = |name: &str| SessionContent::of_caller(session.caller().clone(), name);
        let mut stream = of("a").read(&blob, 0).await.expect("reads");
        futures::StreamExt::next(&mut stream).await.expect("a chunk").expect("bytes");
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        sender.send(Ok(Bytes::from(content(2 << 20)))).expect("is read");
        let mut receiver = receiver;
        let bytes: BlobStream = Box::pin(futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)));
        let (export, other) = (of("export"), Descriptor::new("x", Digest::sha256("other"), 8 << 20));
        let writing = buildkit_util_appcontext::spawn(async move { export.ingest(&other, bytes).await });
        if is_silent {
            session.silence_client();
        } else {
            session.kill_client();
        }
        // It may have noticed already.
        drop(sender.send(Ok(Bytes::from(content(6 << 20)))));
        let outcome = async {
            let target: Arc<dyn ContentStore> = Arc::new(MemoryStore::default());
            let fetched = fetch(&Once(parking_lot::Mutex::new(Some(stream))), &blob, &target, |_| {}).await;
            (fetched, writing.await.expect("does not panic"), target.list().expect("list").len())
        };
        let (fetched, written, kept) =
            tokio::time::timeout(buildkit_session_testutil::DEADLINE, outcome).await.expect("ends");
        assert!(fetched.is_err(), "{fetched:?}");
        assert!(written.is_err());
        assert_eq!(kept, 0);
        session.closed().await;
    }
}

/// Gives a stream that was begun.
struct Once(parking_lot::Mutex<Option<BlobStream>>);

#[async_trait]
impl Provider for Once {
    async fn read(&self, _: &Descriptor, _: u64) -> Result<BlobStream, Error> {
        Ok(self.0.lock().take().expect("is asked once"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_16_digests_that_are_none_are_refused_before_any_path_is_used() {
    let outer = tempfile::tempdir().expect("temp dir");
    let root = outer.path().join("layout");
    std::fs::create_dir_all(root.join("blobs/sha256")).expect("directories");
    std::fs::write(outer.path().join("secret"), "secret").expect("file");
    std::fs::write(root.join("blobs/index"), "index").expect("file");
    let session = open([("oci:a", Arc::new(LayoutStore::new(&root)) as _)]).await;
    let hex = "0".repeat(64);
    for digest in [
        "sha256:../../x",
        "sha256:../../../secret",
        "sha256:/etc/passwd",
        "../secret",
        "sha256:../index",
        "blobs:index",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "",
        ":",
        "sha256:",
        &format!("sha256:{}", &hex[1..]),
        &format!("sha256:{hex}0"),
        &format!("sha256:{}A", &hex[1..]),
        &format!("sha256:{}/", &hex[1..]),
        &format!("SHA256:{hex}"),
        &format!("sha256:{hex}\0"),
        &"x".repeat(1 << 20),
    ] {
        let digest = digest.to_owned();
        let mut raw = raw(&session);
        let shown: String = digest.chars().take(90).collect();
        let mut errors = vec![
            raw.info(request("oci:a", InfoRequest { digest: digest.clone() })).await.err(),
            raw.delete(request("oci:a", DeleteContentRequest { digest: digest.clone() })).await.err(),
            raw.read(request("oci:a", ReadContentRequest { digest: digest.clone(), offset: 0, size: 0 }))
                .await
                .err(),
            raw.update(request(
                "oci:a",
                UpdateRequest {
                    info: Some(buildkit_session_pb::content::Info {
                        digest: digest.clone(),
                        ..Default::default()
                    }),
                    update_mask: None,
                },
            ))
            .await
            .err(),
        ];
        if !digest.is_empty() {
            errors.push(Call::open(&session, "oci:a").await.stat("a", 0, &digest).await.err());
        }
        for error in errors {
            let error = error.unwrap_or_else(|| panic!("`{shown}` is taken for a digest"));
            assert_eq!(error.code(), Code::InvalidArgument, "{shown}: {error}");
            assert!(error.message().len() < 1000, "{shown}");
        }
    }
    assert!(outer.path().join("secret").exists() && root.join("blobs/index").exists());
    assert!(!root.join("ingest").exists());
    // A name of a store is no path either, and must be there.
    for store in ["../a", "/etc", ""] {
        let error = raw(&session).list(request(store, ListContentRequest::default())).await.err();
        assert_eq!(error.expect("no such store").code(), Code::NotFound);
    }
    let error = raw(&session).info(tonic::Request::new(InfoRequest::default())).await.expect_err("no store");
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_listed_and_emptied() {
    let store = MemoryStore::default();
    let blobs: Vec<_> = (0..250u32).map(|number| add(&store, &number.to_le_bytes())).collect();
    let session: SessionPair = open([("a", Arc::new(store) as _)]).await;
    let mut found = Vec::new();
    let listed = raw(&session).list(request("a", ListContentRequest::default())).await;
    let mut messages = listed.expect("lists").into_inner();
    while let Some(message) = messages.message().await.expect("lists") {
        assert!(message.info.len() <= 100);
        found.extend(message.info.into_iter().map(|info| info.digest));
    }
    assert_eq!(found.len(), 250);
    for blob in &blobs {
        let delete = DeleteContentRequest { digest: blob.digest.to_string() };
        raw(&session).delete(request("a", delete)).await.expect("deletes");
    }
    let delete = DeleteContentRequest { digest: blobs[0].digest.to_string() };
    assert_eq!(raw(&session).delete(request("a", delete)).await.expect_err("gone").code(), Code::NotFound);
}
