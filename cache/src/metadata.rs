use std::sync::Arc;
use std::time::SystemTime;

use buildkit_cache_metadata::Batch;

use crate::manager::Inner;
use crate::record::{Facts, Record};
use crate::store::{self, INDEXES, VALUES, joined};
use crate::{Error, RecordType, RefId};

/// What is known about a record, and what others keep with it. Everything ends with the record.
#[derive(Clone)]
pub struct RefMetadata {
    inner: Arc<Inner>,
    id: RefId,
}

impl RefMetadata {
    pub(crate) fn new(inner: Arc<Inner>, id: RefId) -> Self {
        Self { inner, id }
    }

    /// A value that was set. A database that cannot be read has none.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.inner.metadata.get(VALUES, &joined(self.id.as_str(), key)) {
            Ok(value) => value.map(|value| value.to_vec()),
            Err(error) => {
                tracing::warn!(%error, id = %self.id, key, "metadata of a cache record not read");
                None
            }
        }
    }

    /// Keeps a value with the record.
    ///
    /// # Errors
    /// When the record is gone or the database takes no changes.
    pub fn set(&self, key: &str, value: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.write(key, value.into(), None)
    }

    /// As [`set`](Self::set), and makes [`CacheManager::search`](crate::CacheManager::search) find the
    /// record by `index`.
    ///
    /// # Errors
    /// When the record is gone or the database takes no changes.
    pub fn set_indexed(&self, key: &str, value: impl Into<Vec<u8>>, index: &str) -> Result<(), Error> {
        self.write(key, value.into(), Some(index))
    }

    fn write(&self, key: &str, value: Vec<u8>, index: Option<&str>) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.put(VALUES, joined(self.id.as_str(), key), value);
        let mut graph = self.inner.graph.lock();
        let record = graph.get_mut(&self.id)?;
        if let Some(index) = index {
            batch.put(INDEXES, joined(index, self.id.as_str()), Vec::new());
            record.facts.indexes.insert(index.to_owned());
            store::put(&mut batch, &self.id, record);
        }
        // Under the lock, so that the record cannot end in between and leave the value behind; the
        // store only takes it into memory.
        self.inner.apply("store metadata of a cache record", batch)
    }

    fn facts<T>(&self, read: impl FnOnce(&Facts) -> T) -> Option<T> {
        self.inner.graph.lock().records.get(&self.id).map(|record: &Record| read(&record.facts))
    }

    /// The description for people.
    pub fn description(&self) -> String {
        self.facts(|facts| facts.description.clone()).unwrap_or_default()
    }

    /// Changes the description.
    ///
    /// # Errors
    /// When the record is gone or the database takes no changes.
    pub fn set_description(&self, description: &str) -> Result<(), Error> {
        self.inner.update(&self.id, |record| record.facts.description = description.to_owned())
    }

    /// When the record was made.
    pub fn created_at(&self) -> Option<SystemTime> {
        self.facts(|facts| facts.created_at)
    }

    /// Changes the time at which the record was made.
    ///
    /// # Errors
    /// When the record is gone or the database takes no changes.
    pub fn set_created_at(&self, time: SystemTime) -> Result<(), Error> {
        self.inner.update(&self.id, |record| record.facts.created_at = time)
    }

    /// When the record was last released.
    pub fn last_used_at(&self) -> Option<SystemTime> {
        self.facts(|facts| facts.last_used_at).flatten()
    }

    /// How often the record was released.
    pub fn usage_count(&self) -> u64 {
        self.facts(|facts| facts.usage_count).unwrap_or(0)
    }

    /// What the record is for.
    pub fn record_type(&self) -> RecordType {
        self.facts(|facts| facts.record_type).unwrap_or_default()
    }

    /// Changes what the record is for.
    ///
    /// # Errors
    /// When the record is gone or the database takes no changes.
    pub fn set_record_type(&self, record_type: RecordType) -> Result<(), Error> {
        self.inner.update(&self.id, |record| record.facts.record_type = record_type)
    }
}
