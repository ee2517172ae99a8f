use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use buildkit_api_services_control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, UpdateBuildHistoryRequest,
};
use buildkit_cache_metadata::MetadataStore;
use buildkit_errdefs::Kind;
use buildkit_util_appcontext::{self as tasks, TaskGuard};
use buildkit_util_contentutil::ContentStore;
use buildkit_util_grpcerrors::rpc;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, broadcast};

use crate::Error;
use crate::store::{Store, decode};

/// Time between two looks for records that are too old.
const COLLECT: Duration = Duration::from_secs(120);

/// Records that are kept at most, however young they are: all of them are in memory.
const MOST: usize = 10_000;

/// How long those who ask wait for records that are being written.
const PATIENCE: Duration = Duration::from_secs(10);

/// Records that are written at the same time: builds that run come first.
const WRITERS: usize = 2;

/// Events that a listener may be behind.
const BACKLOG: usize = 256;

/// Which records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Records of builds that ended within this time are kept.
    pub max_age: Duration,
    /// So many records are kept, the newest ones.
    pub max_entries: usize,
}

impl Default for Retention {
    /// Two days, and fifty records.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(48 * 3600), max_entries: 50 }
    }
}

/// What a history is made of.
pub struct HistoryOptions {
    /// Has the records.
    pub metadata: Arc<dyn MetadataStore>,
    /// Has their blobs, and nothing else: what belongs to no record is removed.
    pub content: Arc<dyn ContentStore>,
    /// A record is dropped when it is neither young enough nor among the newest, unless it is pinned.
    pub retention: Retention,
}

/// Records of builds. Clones are the same history.
#[derive(Clone)]
pub struct BuildHistory {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    retention: Retention,
    state: Mutex<State>,
    /// A record was written.
    written: Notify,
    pub(crate) writers: Semaphore,
    collector: OnceLock<TaskGuard<()>>,
}

struct State {
    /// Tells builds of the same id apart.
    next: u64,
    active: BTreeMap<String, Active>,
    /// Builds that are over and whose records are being written.
    writing: BTreeMap<u64, String>,
    /// How many listen for each build.
    listeners: HashMap<String, usize>,
    /// Records that go when nobody listens for them any more.
    deleted: HashSet<String>,
    /// `None` when the daemon ends.
    events: Option<broadcast::Sender<Arc<BuildHistoryEvent>>>,
}

struct Active {
    number: u64,
    record: Arc<BuildHistoryRecord>,
}

/// Keeps a record while somebody listens for it.
pub(crate) struct Listening {
    inner: Arc<Inner>,
    reference: String,
}

/// What a listener starts with.
pub(crate) struct Attached {
    /// What happens from now on; nothing if the daemon ends.
    pub(crate) events: Option<broadcast::Receiver<Arc<BuildHistoryEvent>>>,
    /// Builds that run.
    pub(crate) active: Vec<Arc<BuildHistoryRecord>>,
    pub(crate) listening: Option<Listening>,
}

impl BuildHistory {
    /// Opens a history: builds that the last daemon did not end become failed ones, and what has lost its other half
    /// is removed in the background.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn open(options: HistoryOptions) -> Result<Self, Error> {
        let store = Store::open(options.metadata, options.content)?;
        for record in store.running()? {
            let message = "the daemon ended before the build did".to_owned();
            let error = rpc::Status { code: Kind::Unavailable.code(), message, details: Vec::new() };
            let completed_at = Some(SystemTime::now().into());
            store.put(&BuildHistoryRecord { error: Some(error), completed_at, ..record }, Vec::new())?;
        }
        let state = State {
            next: 0,
            active: BTreeMap::new(),
            writing: BTreeMap::new(),
            listeners: HashMap::new(),
            deleted: HashSet::new(),
            events: Some(broadcast::Sender::new(BACKLOG)),
        };
        let inner = Arc::new(Inner {
            store,
            retention: options.retention,
            state: Mutex::new(state),
            written: Notify::new(),
            writers: Semaphore::new(WRITERS),
            collector: OnceLock::new(),
        });
        let weak = Arc::downgrade(&inner);
        let collector = tasks::spawn(async move {
            let mut is_first = true;
            while let Some(inner) = weak.upgrade() {
                let clean = std::mem::take(&mut is_first);
                let work = tasks::spawn_blocking(move || {
                    if clean && let Err(error) = inner.store.clean() {
                        tracing::warn!(%error, "build history is not cleaned");
                    }
                    if let Err(error) = inner.collect(SystemTime::now()) {
                        tracing::warn!(%error, "old build records are not removed");
                    }
                });
                if let Err(error) = work.await {
                    tracing::warn!(%error, "old build records are not removed");
                }
                tokio::time::sleep(COLLECT).await;
            }
        });
        // Set once, right here.
        let _ = inner.collector.set(collector);
        Ok(Self { inner })
    }

    /// The blobs of records.
    pub fn content(&self) -> &Arc<dyn ContentStore> {
        self.inner.store.content()
    }

    /// Deletes a record, or waits until it is wholly written, or pins or unpins it.
    ///
    /// # Errors
    /// When the build to be deleted runs, or there is no record to be pinned.
    pub async fn update(&self, request: UpdateBuildHistoryRequest) -> Result<(), Error> {
        let reference = request.r#ref;
        self.settled(Some(&reference)).await;
        let inner = self.inner.clone();
        if request.delete {
            if inner.state.lock().active.contains_key(&reference) {
                return Err(Error::Running(reference));
            }
            let work = tasks::spawn_blocking(move || inner.delete(&reference));
            return work.await.unwrap_or_else(|error| Err(Error::Invalid(error.to_string())));
        }
        if request.finalize {
            return Ok(());
        }
        let record = inner.store.update(&reference, |record| record.pinned = request.pinned)?;
        inner.tell(BuildHistoryEventType::Complete, record);
        Ok(())
    }

    /// Waits until the records of builds that are over, or of one, are written.
    pub(crate) async fn settled(&self, reference: Option<&str>) {
        let waits_for: Vec<u64> = {
            let state = self.inner.state.lock();
            let writing = state.writing.iter();
            writing.filter(|(_, id)| reference.is_none_or(|wanted| wanted == **id)).map(|(n, _)| *n).collect()
        };
        let wait = async {
            loop {
                let written = self.inner.written.notified();
                tokio::pin!(written);
                written.as_mut().enable();
                let is_written = {
                    let state = self.inner.state.lock();
                    !waits_for.iter().any(|number| state.writing.contains_key(number))
                };
                if is_written {
                    return;
                }
                written.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            tracing::warn!("build records are not written in time");
        }
    }

    /// Waits for records that are being written, and tells listeners that there is no more to come. For a daemon
    /// that ends: builds are over.
    pub async fn close(&self) {
        self.settled(None).await;
        self.inner.state.lock().events = None;
    }

    /// Drops records that are too old and too many, as of a moment. Blocks.
    #[cfg(test)]
    pub(crate) fn collect(&self, now: SystemTime) -> Result<(), Error> {
        self.inner.collect(now)
    }
}

impl Inner {
    /// Notes that a build runs; its number.
    pub(crate) fn start(&self, record: BuildHistoryRecord) -> u64 {
        if let Err(error) = self.store.start(&record) {
            tracing::warn!(%error, "build would be forgotten if the daemon crashed");
        }
        let record = Arc::new(record);
        let mut state = self.state.lock();
        state.next += 1;
        let number = state.next;
        state.active.insert(record.r#ref.clone(), Active { number, record: record.clone() });
        state.tell(BuildHistoryEventType::Started, (*record).clone());
        number
    }

    /// Notes that a build is over and its record is being written.
    pub(crate) fn end(&self, number: u64, reference: &str) {
        let mut state = self.state.lock();
        state.writing.insert(number, reference.to_owned());
    }

    /// Notes that a record was written, or could not be.
    pub(crate) fn written(&self, number: u64, reference: &str, record: Option<BuildHistoryRecord>) {
        {
            let mut state = self.state.lock();
            state.writing.remove(&number);
            if state.active.get(reference).is_some_and(|active| active.number == number) {
                state.active.remove(reference);
            }
            // The record of an earlier build of the same id is not there any more.
            state.deleted.remove(reference);
            match record {
                Some(record) => state.tell(BuildHistoryEventType::Complete, record),
                None => state.tell(BuildHistoryEventType::Deleted, nothing_but(reference)),
            }
        }
        self.written.notify_waiters();
    }

    /// Adds a listener, for one build if it is named.
    pub(crate) fn attach(self: &Arc<Self>, reference: &str) -> Result<Attached, Error> {
        let mut state = self.state.lock();
        let mut listening = None;
        if !reference.is_empty() {
            if state.deleted.contains(reference) {
                return Err(Error::Deleted(reference.to_owned()));
            }
            *state.listeners.entry(reference.to_owned()).or_default() += 1;
            listening = Some(Listening { inner: self.clone(), reference: reference.to_owned() });
        }
        let active = state.active.iter();
        let active = active.filter(|(id, _)| reference.is_empty() || *id == reference);
        Ok(Attached {
            events: state.events.as_ref().map(broadcast::Sender::subscribe),
            active: active.map(|(_, active)| active.record.clone()).collect(),
            listening,
        })
    }

    /// Whether a record is to be deleted.
    pub(crate) fn is_deleted(&self, reference: &str) -> bool {
        self.state.lock().deleted.contains(reference)
    }

    /// Deletes a record, once nobody listens for it any more. Blocks.
    fn delete(&self, reference: &str) -> Result<(), Error> {
        if self.store.has(reference)? {
            let mut state = self.state.lock();
            if state.listeners.contains_key(reference) {
                state.deleted.insert(reference.to_owned());
                return Ok(());
            }
        }
        if self.store.delete(reference)? {
            self.tell(BuildHistoryEventType::Deleted, nothing_but(reference));
        }
        Ok(())
    }

    fn collect(&self, now: SystemTime) -> Result<(), Error> {
        let records = self.store.records()?;
        let mut found: Vec<(SystemTime, String)> = records
            .iter()
            .filter_map(|entry| decode(&entry.value))
            .filter(|record| !record.pinned)
            .map(|record| {
                let ended = record.completed_at.and_then(|time| SystemTime::try_from(time).ok());
                (ended.unwrap_or(SystemTime::UNIX_EPOCH), record.r#ref)
            })
            .collect();
        found.sort_by(|a, b| b.cmp(a));
        let Retention { max_age, max_entries } = self.retention;
        for (at, (ended, reference)) in found.into_iter().enumerate().skip(max_entries.min(MOST)) {
            // A clock that was set back makes nothing old.
            let age = now.duration_since(ended).unwrap_or_default();
            if (at >= max_entries && age > max_age) || at >= MOST {
                self.delete(&reference)?;
            }
        }
        Ok(())
    }

    fn tell(&self, what: BuildHistoryEventType, record: BuildHistoryRecord) {
        self.state.lock().tell(what, record);
    }
}

impl State {
    fn tell(&self, what: BuildHistoryEventType, record: BuildHistoryRecord) {
        if let Some(events) = &self.events {
            // Nobody may listen.
            let _ = events.send(Arc::new(BuildHistoryEvent { r#type: what.into(), record: Some(record) }));
        }
    }
}

fn nothing_but(reference: &str) -> BuildHistoryRecord {
    BuildHistoryRecord { r#ref: reference.to_owned(), ..BuildHistoryRecord::default() }
}

impl Drop for Listening {
    fn drop(&mut self) {
        {
            let mut state = self.inner.state.lock();
            if let Some(count) = state.listeners.get_mut(&self.reference).filter(|count| **count > 1) {
                *count -= 1;
                return;
            }
            state.listeners.remove(&self.reference);
            if !state.deleted.remove(&self.reference) {
                return;
            }
        }
        let (inner, reference) = (self.inner.clone(), std::mem::take(&mut self.reference));
        tasks::detach_blocking("delete a build record", move || {
            if let Err(error) = inner.delete(&reference) {
                tracing::warn!(%error, build = reference, "build record is not deleted");
            }
        });
    }
}
