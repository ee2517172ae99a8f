use bytes::Bytes;
use parking_lot::RwLock;

use crate::port::{Batch, Bucket, Entry, Error, MetadataStore};
use crate::tables::Tables;

/// A store that keeps nothing beyond its own life.
#[derive(Debug, Default)]
pub struct MemoryStore(RwLock<Tables>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl MetadataStore for MemoryStore {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.0.read().get(bucket, key))
    }

    fn range(&self, bucket: Bucket, prefix: &[u8]) -> Result<Vec<Entry>, Error> {
        Ok(self.0.read().range(bucket, prefix))
    }

    fn apply(&self, batch: Batch) -> Result<(), Error> {
        self.0.write().apply(&batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, Error> {
        Ok(0)
    }
}
