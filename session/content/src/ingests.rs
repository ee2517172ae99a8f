use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use buildkit_session_pb::content as pb;
use buildkit_util_cachedigest::{Digest, Digester};
use buildkit_util_contentutil::{ContentStore, Expected, Ingester};
use bytes::Bytes;
use parking_lot::Mutex;
use tonic::Status;

use crate::service::{blocking, status_of};

/// Blobs under way that one store keeps at most; the ones that rest longest are forgotten.
const MOST: usize = 64;
/// Bytes that the name of a blob under way has at most.
const LONGEST_REF: usize = 4096;

/// The blobs under way of one store, by the names that their writers gave them. They rest here while nobody
/// writes them, to be resumed, and end with the session.
#[derive(Default)]
pub(crate) struct Ingests {
    slots: Mutex<HashMap<String, Slot>>,
    next: AtomicU64,
}

struct Slot {
    /// Tells it from a later one of the same name.
    number: u64,
    state: State,
    /// `None` while it is written.
    idle: Option<Ingest>,
}

/// How far a blob under way is.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) expected: Expected,
    pub(crate) offset: u64,
    pub(crate) started: SystemTime,
    pub(crate) updated: SystemTime,
}

impl State {
    pub(crate) fn to_message(&self) -> pb::Status {
        pb::Status {
            started_at: Some(self.started.into()),
            updated_at: Some(self.updated.into()),
            r#ref: self.name.clone(),
            offset: signed(self.offset),
            total: signed(self.expected.size.unwrap_or(0)),
            expected: self.expected.digest.as_ref().map(Digest::to_string).unwrap_or_default(),
        }
    }
}

pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

struct Ingest {
    ingester: Box<dyn Ingester>,
    /// Hashes if the store cannot check because no digest was named at first.
    digester: Option<Digester>,
}

impl Ingest {
    fn start(store: &dyn ContentStore, expected: &Expected) -> Result<Self, Status> {
        let ingester = store.ingest(expected.clone()).map_err(|error| status_of(&error))?;
        Ok(Self { ingester, digester: expected.digest.is_none().then(Digester::new) })
    }
}

impl Ingests {
    /// Takes a blob under way, or starts one. Nobody else can write it meanwhile.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        store: &Arc<dyn ContentStore>,
        name: &str,
        expected: Expected,
    ) -> Result<Lease, Status> {
        if name.len() > LONGEST_REF {
            return Err(Status::invalid_argument("Name of a blob under way is too long"));
        }
        let mut lease = self.claim(store, name, expected)?;
        if lease.ingest.is_none() {
            lease.restart().await?;
        }
        Ok(lease)
    }

    fn claim(
        self: &Arc<Self>,
        store: &Arc<dyn ContentStore>,
        name: &str,
        expected: Expected,
    ) -> Result<Lease, Status> {
        let now = SystemTime::now();
        let fresh = || State {
            name: name.to_owned(),
            expected: expected.clone(),
            offset: 0,
            started: now,
            updated: now,
        };
        // Ends after the lock does: it may remove a file.
        let _ended: (Option<Slot>, Option<Ingest>);
        let mut slots = self.slots.lock();
        if !slots.contains_key(name) {
            if slots.len() >= MOST {
                let oldest = slots.iter().filter(|(_, slot)| slot.idle.is_some());
                let oldest = oldest.min_by_key(|(_, slot)| slot.state.updated).map(|(name, _)| name.clone());
                let oldest = oldest
                    .ok_or_else(|| Status::resource_exhausted("Too many blobs are written at a time"))?;
                _ended = (slots.remove(&oldest), None);
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            slots.insert(name.to_owned(), Slot { number, state: fresh(), idle: None });
            let lease = Lease {
                ingests: self.clone(),
                store: store.clone(),
                number,
                state: fresh(),
                ingest: None,
                is_done: false,
            };
            return Ok(lease);
        }
        let slot = slots.get_mut(name).ok_or_else(|| Status::internal("a slot vanished"))?;
        let ingest = slot.idle.take().ok_or_else(|| Status::unavailable(format!("ref {name} locked")))?;
        // What was begun for another blob is no beginning of this one.
        let mut ingest = Some(ingest);
        if slot.state.expected != expected {
            slot.state = fresh();
            _ended = (None, ingest.take());
        }
        Ok(Lease {
            ingests: self.clone(),
            store: store.clone(),
            number: slot.number,
            state: slot.state.clone(),
            ingest,
            is_done: false,
        })
    }

    /// How far a blob under way is.
    pub(crate) fn state(&self, name: &str) -> Option<State> {
        self.slots.lock().get(name).map(|slot| slot.state.clone())
    }

    /// How far all of them are.
    pub(crate) fn states(&self) -> Vec<State> {
        self.slots.lock().values().map(|slot| slot.state.clone()).collect()
    }

    /// Forgets a blob under way. Who writes it gets an error.
    pub(crate) fn abort(&self, name: &str) -> bool {
        let removed = self.slots.lock().remove(name);
        removed.is_some()
    }
}

/// The right to write one blob. Dropped, what was written rests until it is resumed.
pub(crate) struct Lease {
    ingests: Arc<Ingests>,
    store: Arc<dyn ContentStore>,
    number: u64,
    state: State,
    /// `None` while a thread has it; if that is interrupted it is lost.
    ingest: Option<Ingest>,
    is_done: bool,
}

impl Lease {
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Forgets what was written so far.
    pub(crate) async fn restart(&mut self) -> Result<(), Status> {
        self.ingest = None;
        let (store, expected) = (self.store.clone(), self.state.expected.clone());
        self.ingest = Some(blocking(move || Ingest::start(&*store, &expected)).await?);
        self.moved(0)
    }

    /// Adds bytes.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Status> {
        let offset = self.state.offset + bytes.len() as u64;
        if let Some(size) = self.state.expected.size.filter(|size| offset > *size) {
            return Err(Status::failed_precondition(format!("unexpected size {offset}, expected {size}")));
        }
        let mut ingest = self.take()?;
        let name = self.state.name.clone();
        let ingest = blocking(move || {
            ingest
                .ingester
                .write_all(&bytes)
                .map_err(|error| Status::internal(format!("Failed to write `{name}`: {error}")))?;
            if let Some(digester) = &mut ingest.digester {
                digester.update(&bytes);
            }
            Ok(ingest)
        });
        self.ingest = Some(ingest.await?);
        self.moved(offset)
    }

    /// Makes the blob visible if it is what is expected, by now and from the beginning.
    pub(crate) async fn commit(mut self, expected: Expected) -> Result<Digest, Status> {
        let offset = self.state.offset;
        if let Some(size) = expected.size.filter(|size| *size != offset) {
            let text = format!("unexpected commit size {offset}, expected {size}");
            return Err(Status::failed_precondition(text));
        }
        self.moved(offset)?;
        let ingest = self.take()?;
        // What fails from here on is not resumed.
        self.is_done = true;
        let first = self.state.expected.digest.clone();
        let work = move || {
            if let Some(wanted) = expected.digest {
                let found = match first {
                    Some(first) => Some(first),
                    None => ingest.digester.map(Digester::finish),
                };
                if let Some(found) = found.filter(|found| *found != wanted) {
                    let text = format!("unexpected commit digest {found}, expected {wanted}");
                    return Err(Status::failed_precondition(text));
                }
            }
            Ok(ingest.ingester.commit().map_err(|error| status_of(&error))?.digest)
        };
        blocking(work).await
    }

    /// Forgets the blob.
    pub(crate) fn forget(mut self) {
        self.is_done = true;
    }

    fn take(&mut self) -> Result<Ingest, Status> {
        self.ingest.take().ok_or_else(|| Status::failed_precondition("nothing is written any more"))
    }

    /// Says how far it is; fails if the blob was aborted.
    fn moved(&mut self, offset: u64) -> Result<(), Status> {
        self.state.offset = offset;
        self.state.updated = SystemTime::now();
        let mut slots = self.ingests.slots.lock();
        match slots.get_mut(&self.state.name).filter(|slot| slot.number == self.number) {
            Some(slot) => {
                slot.state = self.state.clone();
                Ok(())
            }
            None => Err(Status::aborted(format!("ref {} was aborted", self.state.name))),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let rest = if self.is_done { None } else { self.ingest.take() };
        let mut slots = self.ingests.slots.lock();
        let Some(slot) = slots.get_mut(&self.state.name).filter(|slot| slot.number == self.number) else {
            return;
        };
        slot.idle = rest;
        if slot.idle.is_none() {
            slots.remove(&self.state.name);
        }
    }
}
