use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use buildkit_api_services_control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, Descriptor,
    UpdateBuildHistoryRequest,
};
use buildkit_cache_metadata::{Batch, Bucket, MemoryStore, MetadataStore};
use buildkit_errdefs::Kind;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{ContentStore, LocalStore};
use buildkit_util_grpcerrors::{Detail, RemoteError, rpc};
use buildkit_util_progress::{Bus, Event, LogStream, Vertex, VertexLog};
use futures::StreamExt as _;
use prost::Message as _;
use tempfile::TempDir;

use super::*;

/// How long something may take that should happen at once.
const DEADLINE: Duration = Duration::from_secs(30);

struct Fixture {
    history: BuildHistory,
    metadata: Arc<MemoryStore>,
    content: Arc<dyn ContentStore>,
    _dir: TempDir,
}

impl Fixture {
    fn new(retention: Retention) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let metadata = Arc::new(MemoryStore::default());
        let content: Arc<dyn ContentStore> = Arc::new(LocalStore::open(dir.path()).expect("a store"));
        let history = open(&metadata, &content, retention);
        Self { history, metadata, content, _dir: dir }
    }

    /// As after a restart.
    fn reopen(&mut self) {
        self.history = open(&self.metadata, &self.content, Retention::default());
    }

    fn start(&self, reference: &str, bus: &Bus) -> Recording {
        let build = NewBuild {
            reference: reference.to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: [("target".to_owned(), "t".to_owned())].into(),
            exporters: vec![("image".to_owned(), [("token".to_owned(), "CANARY".to_owned())].into())],
            progress: bus.subscribe(),
            parent: None,
            recorded: Box::new(|| {}),
        };
        self.history.start(build).expect("is recorded")
    }

    /// A build that is over.
    fn build(&self, reference: &str, result: Result<Delivered, RemoteError>) {
        let bus = Bus::new();
        let recording = self.start(reference, &bus);
        bus.close();
        recording.finish(result);
    }

    async fn listen(&self, request: BuildHistoryRequest) -> Vec<BuildHistoryEvent> {
        let request = BuildHistoryRequest { early_exit: true, ..request };
        let events = self.history.listen(request).await.expect("answers");
        events.map(|event| event.expect("an event")).collect().await
    }

    async fn records(&self) -> Vec<BuildHistoryRecord> {
        let events = self.listen(BuildHistoryRequest::default()).await;
        events.into_iter().filter_map(|event| event.record).collect()
    }

    async fn names(&self) -> Vec<String> {
        self.records().await.into_iter().map(|record| record.r#ref).collect()
    }

    async fn record(&self, reference: &str) -> BuildHistoryRecord {
        let request = BuildHistoryRequest { r#ref: reference.to_owned(), ..BuildHistoryRequest::default() };
        let events = self.listen(request).await;
        assert_eq!(events.len(), 1, "{events:?}");
        events.into_iter().next().and_then(|event| event.record).expect("a record")
    }

    async fn delete(&self, reference: &str) -> Result<(), Error> {
        let request =
            UpdateBuildHistoryRequest { r#ref: reference.to_owned(), delete: true, ..Default::default() };
        self.history.update(request).await
    }

    fn read(&self, blob: Option<&Descriptor>) -> Vec<u8> {
        let blob = blob.expect("a blob");
        let digest = Digest::parse(&blob.digest).expect("a digest");
        let size = u64::try_from(blob.size).expect("a size");
        let mut bytes = Vec::new();
        let mut file = self.content.open(&digest, Some(size)).expect("is there");
        std::io::Read::read_to_end(&mut file, &mut bytes).expect("reads");
        bytes
    }

    fn blobs(&self) -> usize {
        self.content.list().expect("lists").len()
    }
}

fn open(metadata: &Arc<MemoryStore>, content: &Arc<dyn ContentStore>, retention: Retention) -> BuildHistory {
    let options = HistoryOptions { metadata: metadata.clone(), content: content.clone(), retention };
    BuildHistory::open(options).expect("opens")
}

fn size_of_files(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let sizes = entries.map(|path| match path.metadata() {
        Ok(meta) if meta.is_dir() => size_of_files(&path),
        meta => meta.map_or(0, |meta| meta.len()),
    });
    sizes.sum()
}

fn output(text: String) -> Event {
    Event::Log(VertexLog {
        vertex: Digest::sha256("step"),
        stream: LogStream::Stdout,
        data: text.into(),
        timestamp: SystemTime::now(),
    })
}

fn vertex(name: &str, cached: bool) -> Event {
    let now = SystemTime::now();
    Event::Vertex(Vertex {
        digest: Digest::sha256(name),
        inputs: Vec::new(),
        name: name.to_owned(),
        started: Some(now),
        completed: Some(now),
        cached,
        error: String::new(),
        progress_group: None,
    })
}

fn log(bytes: Vec<u8>) -> Event {
    Event::Log(VertexLog {
        vertex: Digest::sha256("step"),
        stream: LogStream::Stdout,
        data: bytes.into(),
        timestamp: SystemTime::UNIX_EPOCH,
    })
}

/// Waits for what happens in the background.
async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("it happens");
}

#[tokio::test]
async fn a_build_is_recorded_from_its_start_to_its_end() {
    let fixture = Fixture::new(Retention::default());
    let mut events = fixture.history.listen(BuildHistoryRequest::default()).await.expect("answers");
    let bus = Bus::new();
    let recording = fixture.start("b1", &bus);
    let started = events.next().await.expect("an event").expect("no error");
    assert_eq!(started.r#type(), BuildHistoryEventType::Started);
    let [active] = &fixture.listen(BuildHistoryRequest::default()).await[..] else {
        panic!("one build runs")
    };
    assert_eq!(active, &started);
    assert!(matches!(fixture.delete("b1").await, Err(Error::Running(_))));

    bus.publish(vertex("step", false));
    bus.publish(vertex("other", true));
    bus.publish(log(b"hello".to_vec()));
    let document = b"{\"schemaVersion\":2}";
    let image = DeliveredImage {
        descriptor: buildkit_util_ocispec::Descriptor::of(
            "application/vnd.oci.image.manifest.v1+json",
            document,
        ),
        documents: vec![document.as_slice().into()],
    };
    recording.finish(Ok(Delivered {
        response: [("containerimage.digest".to_owned(), "sha256:0".to_owned())].into(),
        images: [(1, image)].into(),
    }));
    // The bus may end after that.
    bus.close();
    let record = fixture.record("b1").await;
    let event = events.next().await.expect("an event").expect("no error");
    assert_eq!((event.r#type(), event.record.as_ref()), (BuildHistoryEventType::Complete, Some(&record)));

    assert_eq!((record.num_total_steps, record.num_cached_steps, record.num_completed_steps), (2, 1, 2));
    assert_eq!(record.exporters[0].attrs["token"], "xxxxx");
    assert_eq!(record.exporter_response["containerimage.digest"], "sha256:0");
    assert!(record.error.is_none() && record.external_error.is_none());
    let result = record.result.as_ref().expect("an image");
    assert_eq!(result.result_deprecated.as_ref(), result.results.get(&1));
    assert_eq!(fixture.read(result.results.get(&1)), document);
    let trace = fixture.read(record.trace.as_ref());
    let spans = serde_json::Deserializer::from_slice(&trace).into_iter::<serde_json::Value>();
    let spans: Vec<_> = spans.collect::<Result<_, _>>().expect("JSON");
    assert_eq!(spans.len(), 3);

    let replay = fixture.history.replay("b1").await.expect("reads").expect("is there");
    let messages: Vec<_> = replay.map(|message| message.expect("a message")).collect().await;
    assert_eq!(messages.iter().flat_map(|message| &message.vertexes).count(), 2);
    assert_eq!(messages[0].logs[0].msg, b"hello".as_slice());
    assert!(fixture.history.replay("nobody").await.expect("answers").is_none());

    assert_eq!(fixture.blobs(), 3);
    fixture.delete("b1").await.expect("deletes");
    assert_eq!(fixture.blobs(), 0);
    let event = events.next().await.expect("an event").expect("no error");
    assert_eq!(event.r#type(), BuildHistoryEventType::Deleted);
    fixture.delete("b1").await.expect("is deleted already");
    fixture.history.close().await;
    assert!(events.next().await.is_none(), "the daemon ends");
}

#[tokio::test]
async fn large_output_passes_through_the_disk() {
    let fixture = Fixture::new(Retention::default());
    let bus = Bus::new();
    let recording = fixture.start("large", &bus);
    for number in 0..40_u8 {
        bus.publish(log(vec![number; 100_000]));
    }
    bus.close();
    recording.finish(Ok(Delivered::default()));
    let record = fixture.record("large").await;
    assert!(record.logs.expect("logs").size > 4_000_000);
    let replay = fixture.history.replay("large").await.expect("reads").expect("is there");
    let messages: Vec<_> = replay.map(|message| message.expect("a message")).collect().await;
    let numbers: Vec<u8> = messages.iter().flat_map(|message| &message.logs).map(|log| log.msg[0]).collect();
    assert!(numbers.into_iter().eq(0..40));
}

#[tokio::test]
async fn errors_are_kept_with_their_details_beside_the_record() {
    let fixture = Fixture::new(Retention::default());
    let error = RemoteError::new(Kind::NotFound, "no https://u:CANARY@h/r")
        .with(Detail::json("errdefs.Vertex", r#"{"digest":"sha256:00"}"#));
    fixture.build("failed", Err(error));
    let record = fixture.record("failed").await;
    let error = record.error.as_ref().expect("an error");
    assert_eq!((error.code, error.message.as_str()), (Kind::NotFound.code(), "no https://xxxxx:xxxxx@h/r"));
    assert!(error.details.is_empty());
    let blob = record.external_error.as_ref();
    assert_eq!(blob.map(|blob| blob.media_type.as_str()), Some(media_type::ERROR));
    let whole = rpc::Status::decode(&fixture.read(blob)[..]).expect("a status");
    let whole = RemoteError::from_rpc(whole);
    assert_eq!(whole.message, error.message);
    let names: Vec<_> = whole.details.iter().filter_map(Detail::json_name).collect();
    assert_eq!(names, ["errdefs.Vertex", "stack.Stack"]);

    // One that is given up.
    let bus = Bus::new();
    drop(fixture.start("canceled", &bus));
    bus.close();
    let error = fixture.record("canceled").await.error.expect("an error");
    assert_eq!((error.code, error.message.as_str()), (Kind::Cancelled.code(), "context canceled"));
    let request = BuildHistoryRequest { filter: vec!["status==canceled".to_owned()], ..Default::default() };
    assert_eq!(fixture.listen(request).await.len(), 1);
}

#[tokio::test]
async fn a_record_stays_while_somebody_listens_for_it() {
    let fixture = Fixture::new(Retention::default());
    for name in ["a", "b", "c"] {
        fixture.build(name, Ok(Delivered::default()));
    }
    let request = BuildHistoryRequest { r#ref: "b".to_owned(), ..BuildHistoryRequest::default() };
    let mut listener = fixture.history.listen(request.clone()).await.expect("answers");
    assert_eq!(
        listener.next().await.expect("an event").expect("no error").record.expect("a record").r#ref,
        "b"
    );
    fixture.delete("b").await.expect("deletes");
    assert_eq!(fixture.names().await, ["a", "c"], "others do not see it any more");
    assert!(fixture.history.inner.store.has("b").expect("reads"));
    assert!(matches!(fixture.history.listen(request).await.err(), Some(Error::Deleted(_))));
    drop(listener);
    until(|| !fixture.history.inner.store.has("b").expect("reads")).await;
}

#[tokio::test]
async fn pins_and_generations() {
    let fixture = Fixture::new(Retention { max_age: Duration::ZERO, max_entries: 1 });
    for name in ["a", "b", "c"] {
        fixture.build(name, Ok(Delivered::default()));
        // So that they end in this order.
        fixture.record(name).await;
    }
    let pin = |name: &str, pinned| UpdateBuildHistoryRequest {
        r#ref: name.to_owned(),
        pinned,
        ..Default::default()
    };
    fixture.history.update(pin("a", true)).await.expect("pins");
    let record = fixture.record("a").await;
    assert_eq!((record.pinned, record.generation), (true, 1));
    let error = fixture.history.update(pin("x", true)).await.expect_err("there is none");
    assert_eq!(error.to_string(), "failed to retrieve ref x: file does not exist");
    // The pinned one, and of the others the newest.
    let later = SystemTime::now() + Duration::from_secs(1);
    fixture.history.collect(later).expect("collects");
    assert_eq!(fixture.names().await, ["a", "c"]);
    fixture.history.update(pin("a", false)).await.expect("unpins");
    fixture.history.collect(later).expect("collects");
    assert_eq!(fixture.names().await, ["c"]);
}

#[tokio::test]
async fn records_go_that_are_both_old_and_many() {
    let hour = Duration::from_secs(3600);
    let fixture = Fixture::new(Retention { max_age: hour, max_entries: 2 });
    for name in ["a", "b", "c"] {
        fixture.build(name, Ok(Delivered::default()));
        fixture.record(name).await;
    }
    let now = SystemTime::now();
    fixture.history.collect(now).expect("collects");
    assert_eq!(fixture.names().await, ["a", "b", "c"], "many, but young");
    fixture.history.collect(now + 2 * hour).expect("collects");
    assert_eq!(fixture.names().await, ["b", "c"], "old, and not too many");
}

#[tokio::test]
async fn blobs_that_records_share_stay_for_the_other() {
    let fixture = Fixture::new(Retention::default());
    for name in ["a", "b"] {
        fixture.build(name, Ok(Delivered::default()));
    }
    // Both logs are empty.
    let (a, b) = (fixture.record("a").await, fixture.record("b").await);
    assert_eq!(a.logs, b.logs);
    fixture.delete("a").await.expect("deletes");
    assert_eq!(fixture.read(b.logs.as_ref()), b"");
    assert_eq!(fixture.blobs(), 2);
    // A build of the same id takes the place of the earlier one.
    fixture.build("b", Ok(Delivered::default()));
    let again = fixture.record("b").await;
    assert_ne!(again.trace, b.trace);
    assert_eq!(fixture.blobs(), 2);
}

#[tokio::test]
async fn a_restart_finds_what_was_and_cleans_up() {
    let mut fixture = Fixture::new(Retention::default());
    for name in ["kept", "lost"] {
        fixture.build(name, Err(RemoteError::new(Kind::Unknown, name)));
    }
    let running = Bus::new();
    let recording = fixture.start("running", &running);
    let lost = fixture.record("lost").await;
    let kept = fixture.record("kept").await;
    for blob in [&lost.trace, &lost.external_error] {
        let digest = Digest::parse(&blob.as_ref().expect("a blob").digest).expect("a digest");
        fixture.content.delete(&digest).expect("deletes");
    }
    // The empty log is shared, so it has to go with both.
    let log = Digest::parse(&lost.logs.expect("logs").digest).expect("a digest");
    fixture.content.delete(&log).expect("deletes");
    let stray = Bucket::new("history.records");
    let mut batch = Batch::new();
    batch.put(stray, "damaged", "\u{ff}").put(stray, "bare", BuildHistoryRecord::default().encode_to_vec());
    fixture.metadata.apply(batch).expect("applies");
    let mut ingester = fixture.content.ingest(Default::default()).expect("starts");
    std::io::Write::write_all(&mut ingester, b"nobody's").expect("writes");
    ingester.commit().expect("commits");

    fixture.reopen();
    until(|| fixture.blobs() == 2).await;
    until(|| !fixture.history.inner.store.has("lost").expect("reads")).await;
    assert_eq!(fixture.names().await, ["kept", "running"]);
    assert_eq!(fixture.record("kept").await, kept);
    let interrupted = fixture.record("running").await;
    let message = interrupted.error.map(|error| error.message);
    assert_eq!(message.as_deref(), Some("the daemon ended before the build did"));
    assert!(interrupted.completed_at.is_some());
    let replay = fixture.history.replay("running").await.expect("answers").expect("is there");
    assert_eq!(replay.count().await, 0);
    // The blob of its progress is gone.
    assert!(fixture.history.replay("kept").await.is_err());
    running.close();
    drop(recording);
}

#[tokio::test]
async fn who_listens_too_slowly_is_told() {
    let fixture = Fixture::new(Retention::default());
    let mut events = fixture.history.listen(BuildHistoryRequest::default()).await.expect("answers");
    for number in 0..300 {
        fixture.build(&format!("b{number}"), Ok(Delivered::default()));
    }
    assert_eq!(fixture.names().await.len(), 300);
    let error = events.next().await.expect("an event").expect_err("some were missed");
    assert!(matches!(error, Error::Missed(count) if count > 0), "{error}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn records_are_announced_and_endless_ids_are_not_recorded() {
    let fixture = Fixture::new(Retention::default());
    let told = Arc::new(AtomicBool::new(false));
    let (bus, flag) = (Bus::new(), told.clone());
    let build = |reference: String, recorded: Box<dyn FnOnce() + Send>| NewBuild {
        reference,
        frontend: String::new(),
        frontend_attrs: Default::default(),
        exporters: Vec::new(),
        progress: bus.subscribe(),
        parent: None,
        recorded,
    };
    assert!(fixture.history.start(build("x".repeat(1 << 20), Box::new(|| {}))).is_none());
    let recorded = Box::new(move || flag.store(true, Ordering::Relaxed));
    let recording = fixture.history.start(build("x".to_owned(), recorded)).expect("is recorded");
    bus.close();
    recording.finish(Ok(Delivered::default()));
    until(|| told.load(Ordering::Relaxed)).await;
    assert!(fixture.history.inner.store.has("x").expect("reads"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_output_is_recorded_of_a_build_that_writes_more_than_is_kept_in_memory() {
    const WRITES: usize = 2400;
    const LENGTH: usize = 60_000;
    let fixture = Fixture::new(Retention::default());
    let bus = Bus::new();
    let recording = fixture.start("b1", &bus);
    for number in 0..WRITES {
        bus.publish(output(format!("{number:0LENGTH$}")));
        // Only who reads in time sees everything, so it is waited until what was piled up is read, but for the last pile.
        let (pile, written) = (8 << 20, number * LENGTH);
        let read = (written / pile * pile).saturating_sub(pile + pile / 4);
        let wait = async {
            while size_of_files(fixture._dir.path()) < read as u64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("is read");
    }
    assert!(bus.size() < (WRITES * LENGTH) / 2);
    bus.close();
    recording.finish(Ok(Delivered::default()));
    let record = fixture.record("b1").await;
    let replay = fixture.history.replay("b1").await.expect("answers").expect("is recorded");
    let messages: Vec<_> = replay.map(|message| message.expect("a message")).collect().await;
    let numbers = messages.iter().flat_map(|message| &message.logs).map(|log| {
        let text = std::str::from_utf8(&log.msg).expect("text");
        text.parse::<usize>().expect("a number")
    });
    assert!(numbers.eq(0..WRITES));
    assert!(record.logs.is_some_and(|logs| logs.size > (WRITES * LENGTH) as i64));
}
