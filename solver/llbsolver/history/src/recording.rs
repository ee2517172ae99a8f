use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use buildkit_api_services_control::{BuildHistoryRecord, BuildResultInfo, Descriptor};
use buildkit_errdefs::Kind;
use buildkit_util_appcontext as tasks;
use buildkit_util_contentutil::Error as ContentError;
use buildkit_util_grpcerrors::{Detail, RemoteError};
use buildkit_util_ocispec as oci;
use buildkit_util_progress::Subscription;
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::oneshot;

use crate::history::{BuildHistory, Inner};
use crate::logs::ProgressLog;
use crate::redact::{self, Room};
use crate::store::Lease;
use crate::trace::{self, BuildSpan, TraceParent};
use crate::{Error, media_type};

/// Most bytes of an id of a build that is recorded.
const LONGEST_REFERENCE: usize = 1 << 10;
/// Most bytes of the text of an error in a record.
const LONGEST_ERROR: usize = 32 << 10;
/// How long progress may take to end when the build has.
const PATIENCE: Duration = Duration::from_secs(10);

/// A build that starts.
pub struct NewBuild {
    /// Its id.
    pub reference: String,
    /// Who makes its graph; empty if the client does.
    pub frontend: String,
    /// What that is told.
    pub frontend_attrs: BTreeMap<String, String>,
    /// Where the result goes: kinds of exporters and their options.
    pub exporters: Vec<(String, BTreeMap<String, String>)>,
    /// Its progress from the beginning, which ends when the build does.
    pub progress: Subscription,
    /// The span of the client that it belongs to.
    pub parent: Option<TraceParent>,
    /// Called when the record can be read.
    pub recorded: Box<dyn FnOnce() + Send>,
}

/// What a build delivered.
#[derive(Debug, Default)]
pub struct Delivered {
    /// What exporters answered.
    pub response: BTreeMap<String, String>,
    /// Images by the positions of their exporters in the request.
    pub images: BTreeMap<usize, DeliveredImage>,
}

/// An image that was exported.
#[derive(Debug)]
pub struct DeliveredImage {
    /// Names the index, or else the manifest.
    pub descriptor: oci::Descriptor,
    /// Index, manifests and configurations, to be kept with the record.
    pub documents: Vec<Bytes>,
}

/// Records a build. Dropping it records that the build was given up.
pub struct Recording {
    /// Taken when the build is over.
    ended: Option<oneshot::Sender<Outcome>>,
    number: u64,
    reference: String,
    inner: Arc<Inner>,
}

struct Recorded {
    record: BuildHistoryRecord,
    started: SystemTime,
    progress: Subscription,
    parent: Option<TraceParent>,
    recorded: Box<dyn FnOnce() + Send>,
}

/// How a build ended.
struct Outcome {
    completed: SystemTime,
    result: Result<Delivered, RemoteError>,
    /// Where that was learned.
    place: &'static Location<'static>,
}

impl BuildHistory {
    /// Notes that a build starts. Nothing is recorded of one with an endless id.
    pub fn start(&self, build: NewBuild) -> Option<Recording> {
        if build.reference.len() > LONGEST_REFERENCE {
            tracing::warn!(length = build.reference.len(), "build is not recorded: its id is too long");
            return None;
        }
        let started = SystemTime::now();
        let mut room = Room::default();
        let record = BuildHistoryRecord {
            frontend_attrs: room.attrs(build.frontend_attrs),
            exporters: room.exporters(build.exporters),
            r#ref: build.reference,
            frontend: build.frontend,
            created_at: Some(started.into()),
            ..BuildHistoryRecord::default()
        };
        let number = self.inner.start(record.clone());
        let reference = record.r#ref.clone();
        let build = Recorded {
            record,
            started,
            progress: build.progress,
            parent: build.parent,
            recorded: build.recorded,
        };
        let (sender, ended) = oneshot::channel();
        let inner = self.inner.clone();
        tasks::detach("record a build", async move {
            let reference = build.record.r#ref.clone();
            let (record, recorded) = match write(&inner, build, ended).await {
                Ok((record, recorded)) => (Some(record), Some(recorded)),
                Err(error) => {
                    tracing::warn!(%error, build = reference, "build is not recorded");
                    if let Err(error) = inner.store.forget(&reference) {
                        tracing::debug!(%error, build = reference, "build seems to run");
                    }
                    (None, None)
                }
            };
            inner.written(number, &reference, record);
            if let Some(recorded) = recorded {
                recorded();
            }
        });
        Some(Recording { ended: Some(sender), number, reference, inner: self.inner.clone() })
    }
}

impl Recording {
    /// Records how the build ended. Returns at once.
    #[track_caller]
    pub fn finish(mut self, result: Result<Delivered, RemoteError>) {
        self.end(Outcome { completed: SystemTime::now(), result, place: Location::caller() });
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(ended) = self.ended.take() else { return };
        self.inner.end(self.number, &self.reference);
        if ended.send(outcome).is_err() {
            // Who records has gone; nobody is to wait for it.
            self.inner.written(self.number, &self.reference, None);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end(Outcome::given_up());
    }
}

impl Outcome {
    #[track_caller]
    fn given_up() -> Self {
        let canceled = RemoteError::new(Kind::Cancelled, "context canceled");
        Self { completed: SystemTime::now(), result: Err(canceled), place: Location::caller() }
    }
}

type Written = (BuildHistoryRecord, Box<dyn FnOnce() + Send>);

/// Reads the progress to its end, then writes everything.
async fn write(
    inner: &Arc<Inner>,
    mut build: Recorded,
    ended: oneshot::Receiver<Outcome>,
) -> Result<Written, Error> {
    let (outcome, log) = watch(inner, &mut build.progress, ended).await;
    let mut log = log?;
    loop {
        match tokio::time::timeout(PATIENCE, build.progress.next()).await {
            Ok(Some(status)) => log.add(status),
            Ok(None) => break,
            Err(_) => {
                tracing::debug!(build = build.record.r#ref, "progress of a build does not end with it");
                break;
            }
        }
        log = spill(inner, log).await?;
    }
    blocking(inner, move |inner| store(inner, build, log, outcome)).await
}

/// Waits for the end of a build. What it writes is kept by others only up to a limit, so much of it is read before.
async fn watch(
    inner: &Arc<Inner>,
    progress: &mut Subscription,
    mut ended: oneshot::Receiver<Outcome>,
) -> (Outcome, Result<ProgressLog, Error>) {
    let mut log = Ok(ProgressLog::default());
    let mut is_open = true;
    loop {
        tokio::select! {
            outcome = &mut ended => return (outcome.unwrap_or_else(|_| Outcome::given_up()), log),
            () = progress.piled_up(), if is_open => {}
        }
        (log, is_open) = match log {
            Ok(log) => read(inner, progress, log).await,
            Err(error) => (Err(error), false),
        };
    }
}

/// Reads what there is; whether there can be more.
async fn read(
    inner: &Arc<Inner>,
    progress: &mut Subscription,
    mut log: ProgressLog,
) -> (Result<ProgressLog, Error>, bool) {
    loop {
        let (status, is_end) = progress.take();
        if status.is_empty() {
            return (Ok(log), !is_end);
        }
        log.add(status);
        log = match spill(inner, log).await {
            Ok(log) => log,
            Err(error) => return (Err(error), false),
        };
    }
}

/// Writes what has been read if it is much.
async fn spill(inner: &Arc<Inner>, mut log: ProgressLog) -> Result<ProgressLog, Error> {
    if !log.is_full() {
        return Ok(log);
    }
    blocking(inner, move |inner| log.spill(&inner.store).map(|()| log)).await
}

/// Runs work that blocks, when it is its turn.
async fn blocking<T: Send + 'static>(
    inner: &Arc<Inner>,
    work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    // The semaphore is never closed.
    let _turn = inner.writers.acquire().await;
    let inner = inner.clone();
    let work = tasks::spawn_blocking(move || work(&inner));
    work.await.unwrap_or_else(|error| Err(Error::Invalid(error.to_string())))
}

fn store(inner: &Inner, build: Recorded, mut log: ProgressLog, outcome: Outcome) -> Result<Written, Error> {
    let Recorded { mut record, started, parent, recorded, .. } = build;
    let mut leases = Vec::new();
    let mut keep = |lease: Lease, media_type: &str| {
        let descriptor = descriptor(&lease, media_type);
        leases.push(lease);
        descriptor
    };
    let (total, cached, completed) = log.counts();
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    record.num_total_steps = number(total);
    record.num_cached_steps = number(cached);
    record.num_completed_steps = number(completed);
    record.num_warnings = number(log.warnings);
    record.completed_at = Some(outcome.completed.into());
    record.logs = Some(keep(log.commit(&inner.store)?, media_type::LOGS));

    let mut error_text = None;
    match outcome.result {
        Ok(delivered) => {
            record.exporter_response = Room::default().attrs(delivered.response);
            // Upstream's has at least the provenance of the build there, and clients look into it unasked.
            let result = record.result.insert(BuildResultInfo::default());
            for (index, image) in delivered.images {
                for document in &image.documents {
                    // What it is stands in the document that names it.
                    keep(inner.store.add(document)?, "");
                }
                let descriptor = Descriptor {
                    media_type: image.descriptor.media_type,
                    digest: image.descriptor.digest.to_string(),
                    size: i64::try_from(image.descriptor.size).unwrap_or(i64::MAX),
                    annotations: image.descriptor.annotations,
                };
                result.result_deprecated.get_or_insert_with(|| descriptor.clone());
                result.results.insert(i64::try_from(index).unwrap_or(i64::MAX), descriptor);
            }
        }
        Err(error) => {
            let mut status = error.with(stack(outcome.place)).to_rpc();
            status.message = redact::text(&status.message).into_owned();
            record.external_error = Some(keep(inner.store.add(&status.encode_to_vec())?, media_type::ERROR));
            status.details.clear();
            truncate(&mut status.message, LONGEST_ERROR);
            error_text = Some(status.message.clone());
            record.error = Some(status);
        }
    }

    let span = BuildSpan {
        reference: &record.r#ref,
        frontend: &record.frontend,
        parent,
        started,
        completed: outcome.completed,
        error: error_text.as_deref(),
    };
    let mut file = std::io::BufWriter::new(inner.store.ingest()?);
    let failed = |error| Error::content("store the trace of a build")(ContentError::from_io(error));
    trace::write(&mut file, &span, &log).map_err(failed)?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    record.trace = Some(keep(inner.store.commit(file)?, media_type::TRACE));

    inner.store.put(&record, leases)?;
    Ok((record, recorded))
}

fn descriptor(lease: &Lease, media_type: &str) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: lease.info.digest.to_string(),
        size: i64::try_from(lease.info.size).unwrap_or(i64::MAX),
        annotations: BTreeMap::new(),
    }
}

/// Says who noted an error, and where, as the original's clients show it when they debug.
fn stack(place: &Location<'_>) -> Detail {
    let json = serde_json::json!({
        "frames": [{ "Name": "finish", "File": place.file(), "Line": place.line() }],
        "cmdline": std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "pid": std::process::id(),
        "version": buildkit_version::VERSION,
        "revision": buildkit_version::REVISION,
    });
    Detail::json("stack.Stack", json.to_string())
}

/// Cuts a text that is too long, between two characters.
fn truncate(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}
