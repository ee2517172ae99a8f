use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use buildkit_api_services_control::BuildHistoryRecord;
use buildkit_cache_metadata::{Batch, Bucket, Entry, MetadataStore};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{BlobInfo, ContentStore, Error as ContentError, Expected, Ingester};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;

use crate::Error;

/// Records by the ids of their builds.
const RECORDS: Bucket = Bucket::new("history.records");
/// The blobs of each record, a digest a line.
const LEASES: Bucket = Bucket::new("history.leases");
/// Records of builds that run.
const RUNNING: Bucket = Bucket::new("history.running");

/// Records and their blobs.
pub(crate) struct Store {
    metadata: Arc<dyn MetadataStore>,
    blobs: Arc<Blobs>,
    /// Held while a record is read, changed and written. The database does not wait for a disk.
    change: Mutex<()>,
}

/// Blobs, which are removed when nothing has them any more.
struct Blobs {
    content: Arc<dyn ContentStore>,
    /// How many have each blob. A gate: it is held while one blob appears or goes, so that none goes that somebody
    /// has just stored again. Only writers of records, who nobody waits for, pass it.
    held: Mutex<HashMap<Digest, usize>>,
}

/// A blob that is there until this is dropped, or as long as a record that has taken it.
pub(crate) struct Lease {
    blobs: Arc<Blobs>,
    pub(crate) info: BlobInfo,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.blobs.release(&self.info.digest);
    }
}

impl Blobs {
    fn commit(self: &Arc<Self>, ingester: Box<dyn Ingester>) -> Result<Lease, ContentError> {
        let mut held = self.held.lock();
        let info = ingester.commit()?;
        *held.entry(info.digest.clone()).or_default() += 1;
        Ok(Lease { blobs: self.clone(), info })
    }

    fn hold(&self, digest: &Digest) {
        *self.held.lock().entry(digest.clone()).or_default() += 1;
    }

    fn release(&self, digest: &Digest) {
        let mut held = self.held.lock();
        if let Some(count) = held.get_mut(digest).filter(|count| **count > 1) {
            *count -= 1;
            return;
        }
        held.remove(digest);
        self.remove(digest);
    }

    /// Removes a blob that nothing has.
    fn sweep(&self, digest: &Digest) {
        let held = self.held.lock();
        if !held.contains_key(digest) {
            self.remove(digest);
        }
    }

    fn remove(&self, digest: &Digest) {
        match self.content.delete(digest) {
            Ok(()) | Err(ContentError::NotFound(_)) => {}
            Err(error) => tracing::warn!(%error, %digest, "blob of the build history is left behind"),
        }
    }
}

impl Store {
    /// Opens the store: knows what has which blobs.
    pub(crate) fn open(
        metadata: Arc<dyn MetadataStore>,
        content: Arc<dyn ContentStore>,
    ) -> Result<Self, Error> {
        let blobs = Arc::new(Blobs { content, held: Mutex::default() });
        let store = Self { metadata, blobs, change: Mutex::default() };
        let leases = store.range(LEASES)?;
        for lease in leases {
            let blobs = parse_lease(&lease.value);
            blobs.iter().for_each(|digest| store.blobs.hold(digest));
        }
        Ok(store)
    }

    /// The blobs.
    pub(crate) fn content(&self) -> &Arc<dyn ContentStore> {
        &self.blobs.content
    }

    /// Starts a blob.
    pub(crate) fn ingest(&self) -> Result<Box<dyn Ingester>, Error> {
        self.blobs
            .content
            .ingest(Expected::default())
            .map_err(Error::content("store a blob of a build record"))
    }

    /// Ends a blob.
    pub(crate) fn commit(&self, ingester: Box<dyn Ingester>) -> Result<Lease, Error> {
        self.blobs.commit(ingester).map_err(Error::content("store a blob of a build record"))
    }

    /// Stores a small blob.
    pub(crate) fn add(&self, bytes: &[u8]) -> Result<Lease, Error> {
        let mut ingester = self.ingest()?;
        ingester.write_all(bytes).map_err(|error| {
            Error::content("store a blob of a build record")(ContentError::from_io(error))
        })?;
        self.commit(ingester)
    }

    /// Notes that a build runs.
    pub(crate) fn start(&self, record: &BuildHistoryRecord) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.put(RUNNING, record.r#ref.clone(), record.encode_to_vec());
        self.apply(batch)
    }

    /// Forgets that a build runs, of which no record will be.
    pub(crate) fn forget(&self, reference: &str) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.delete(RUNNING, reference.to_owned());
        self.apply(batch)
    }

    /// Builds that ran when the last daemon ended.
    pub(crate) fn running(&self) -> Result<Vec<BuildHistoryRecord>, Error> {
        let entries = self.range(RUNNING)?;
        Ok(entries.iter().filter_map(|entry| decode(&entry.value)).collect())
    }

    /// Writes the record of a build that is over, with its blobs. What an earlier build of the same id left goes.
    pub(crate) fn put(&self, record: &BuildHistoryRecord, leases: Vec<Lease>) -> Result<(), Error> {
        let digests: Vec<&str> = leases.iter().map(|lease| lease.info.digest.as_str()).collect();
        let mut batch = Batch::new();
        batch.put(RECORDS, record.r#ref.clone(), record.encode_to_vec());
        batch.put(LEASES, record.r#ref.clone(), digests.join("\n"));
        batch.delete(RUNNING, record.r#ref.clone());
        let before = {
            let _change = self.change.lock();
            let before = self.lease(&record.r#ref)?;
            self.apply(batch)?;
            before
        };
        for lease in &leases {
            self.blobs.hold(&lease.info.digest);
        }
        before.iter().for_each(|digest| self.blobs.release(digest));
        Ok(())
    }

    /// A record.
    pub(crate) fn get(&self, reference: &str) -> Result<BuildHistoryRecord, Error> {
        let value = self.encoded(reference)?.ok_or_else(|| Error::NotFound(reference.to_owned()))?;
        decode(&value).ok_or_else(|| Error::Damaged(reference.to_owned()))
    }

    /// Whether there is a record.
    pub(crate) fn has(&self, reference: &str) -> Result<bool, Error> {
        Ok(self.encoded(reference)?.is_some())
    }

    /// A record, encoded, if there is one.
    pub(crate) fn encoded(&self, reference: &str) -> Result<Option<Bytes>, Error> {
        let value = self.metadata.get(RECORDS, reference.as_bytes());
        value.map_err(Error::metadata("read a build record"))
    }

    /// All records, encoded, in the order of their ids.
    pub(crate) fn records(&self) -> Result<Vec<Entry>, Error> {
        self.range(RECORDS)
    }

    /// Changes a record; what it is now.
    pub(crate) fn update(
        &self,
        reference: &str,
        change: impl FnOnce(&mut BuildHistoryRecord),
    ) -> Result<BuildHistoryRecord, Error> {
        let _change = self.change.lock();
        let mut record = self.get(reference)?;
        change(&mut record);
        record.generation = record.generation.saturating_add(1);
        let mut batch = Batch::new();
        batch.put(RECORDS, reference.to_owned(), record.encode_to_vec());
        self.apply(batch)?;
        Ok(record)
    }

    /// Removes a record and the blobs that only it has; whether there was one. Blocks.
    pub(crate) fn delete(&self, reference: &str) -> Result<bool, Error> {
        let mut batch = Batch::new();
        batch.delete(RECORDS, reference.to_owned());
        batch.delete(LEASES, reference.to_owned());
        let (found, blobs) = {
            let _change = self.change.lock();
            let found = self.has(reference)?;
            let blobs = self.lease(reference)?;
            self.apply(batch)?;
            (found, blobs)
        };
        blobs.iter().for_each(|digest| self.blobs.release(digest));
        Ok(found)
    }

    /// Removes records whose blobs are gone and blobs whose records are gone. Blocks.
    pub(crate) fn clean(&self) -> Result<(), Error> {
        for entry in self.range(LEASES)? {
            let Ok(reference) = std::str::from_utf8(&entry.key) else { continue };
            let blobs = parse_lease(&entry.value);
            let is_there = |digest: &Digest| self.blobs.content.info(digest).is_ok();
            let is_lost = !blobs.is_empty() && !blobs.iter().any(is_there);
            let is_damaged = matches!(self.get(reference), Err(Error::Damaged(_) | Error::NotFound(_)));
            if is_lost || is_damaged {
                tracing::warn!(build = reference, "build record is removed: what it needs is missing");
                self.delete(reference)?;
            }
        }
        for entry in self.range(RECORDS)? {
            let Ok(reference) = std::str::from_utf8(&entry.key) else { continue };
            let lease =
                self.metadata.get(LEASES, &entry.key).map_err(Error::metadata("read a build record"))?;
            if lease.is_none() {
                tracing::warn!(build = reference, "build record is removed: what it needs is missing");
                self.delete(reference)?;
            }
        }
        let blobs = self.blobs.content.list().map_err(Error::content("list the blobs of build records"))?;
        blobs.iter().for_each(|blob| self.blobs.sweep(&blob.digest));
        Ok(())
    }

    fn lease(&self, reference: &str) -> Result<Vec<Digest>, Error> {
        let value = self.metadata.get(LEASES, reference.as_bytes());
        let value = value.map_err(Error::metadata("read a build record"))?;
        Ok(value.map(|value| parse_lease(&value)).unwrap_or_default())
    }

    fn range(&self, bucket: Bucket) -> Result<Vec<Entry>, Error> {
        self.metadata.range(bucket, b"").map_err(Error::metadata("list the build records"))
    }

    fn apply(&self, batch: Batch) -> Result<(), Error> {
        self.metadata.apply(batch).map_err(Error::metadata("write a build record"))
    }
}

/// Decodes a record; nothing for one that is damaged.
pub(crate) fn decode(value: &Bytes) -> Option<BuildHistoryRecord> {
    BuildHistoryRecord::decode(value.clone()).ok()
}

fn parse_lease(value: &[u8]) -> Vec<Digest> {
    let text = String::from_utf8_lossy(value);
    text.lines().filter_map(|line| Digest::parse(line).ok()).collect()
}
