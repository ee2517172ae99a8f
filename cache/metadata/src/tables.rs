use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::port::{Batch, Bucket, Entry};

/// The live content of a store, in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    buckets: BTreeMap<Box<str>, BTreeMap<Bytes, Bytes>>,
    live_bytes: u64,
}

impl Tables {
    pub(crate) fn get(&self, bucket: Bucket, key: &[u8]) -> Option<Bytes> {
        self.buckets.get(bucket.name())?.get(key).cloned()
    }

    pub(crate) fn range(&self, bucket: Bucket, prefix: &[u8]) -> Vec<Entry> {
        let Some(table) = self.buckets.get(bucket.name()) else { return Vec::new() };
        table
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| Entry { key: key.clone(), value: value.clone() })
            .collect()
    }

    pub(crate) fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match &change.value {
                Some(value) => self.insert(change.bucket.name(), change.key.clone(), value.clone()),
                None => self.remove(change.bucket.name(), &change.key),
            }
        }
    }

    pub(crate) fn insert(&mut self, bucket: &str, key: Bytes, value: Bytes) {
        if !self.buckets.contains_key(bucket) {
            self.buckets.insert(bucket.into(), BTreeMap::new());
        }
        let Some(table) = self.buckets.get_mut(bucket) else { return };
        let key_len = key.len();
        self.live_bytes += value.len() as u64;
        match table.insert(key, value) {
            Some(old) => self.live_bytes -= old.len() as u64,
            None => self.live_bytes += (bucket.len() + 1 + key_len) as u64,
        }
    }

    fn remove(&mut self, bucket: &str, key: &[u8]) {
        if let Some(old) = self.buckets.get_mut(bucket).and_then(|table| table.remove(key)) {
            self.live_bytes -= (bucket.len() + 1 + key.len() + old.len()) as u64;
        }
    }

    /// Bytes of all keys and values, as the database counts them.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Bytes, &Bytes)> {
        self.buckets
            .iter()
            .flat_map(|(name, table)| table.iter().map(move |(key, value)| (&**name, key, value)))
    }
}
