use std::collections::HashMap;
use std::io::{self, Cursor, Write};
use std::sync::Arc;
use std::time::SystemTime;

use buildkit_util_cachedigest::Digest;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::port::{BlobInfo, Check, ContentStore, Error, Expected, Ingester, ReadBlob};

/// A store that keeps nothing beyond its own life.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    blobs: Arc<Mutex<HashMap<Digest, (Bytes, SystemTime)>>>,
}

struct MemoryIngester {
    store: MemoryStore,
    content: Vec<u8>,
    check: Check,
}

impl ContentStore for MemoryStore {
    fn info(&self, digest: &Digest) -> Result<BlobInfo, Error> {
        let blobs = self.blobs.lock();
        let (content, stored_at) = blobs.get(digest).ok_or_else(|| Error::NotFound(digest.clone()))?;
        Ok(BlobInfo { digest: digest.clone(), size: content.len() as u64, stored_at: *stored_at })
    }

    fn open(&self, digest: &Digest, size: Option<u64>) -> Result<Box<dyn ReadBlob>, Error> {
        let mut blobs = self.blobs.lock();
        let (content, _) = blobs.get(digest).ok_or_else(|| Error::NotFound(digest.clone()))?;
        if size.is_some_and(|size| size != content.len() as u64) {
            blobs.remove(digest);
            return Err(Error::Damaged(digest.clone()));
        }
        Ok(Box::new(Cursor::new(content.clone())))
    }

    fn ingest(&self, expected: Expected) -> Result<Box<dyn Ingester>, Error> {
        Ok(Box::new(MemoryIngester {
            store: self.clone(),
            content: Vec::new(),
            check: Check::new(expected)?,
        }))
    }

    fn delete(&self, digest: &Digest) -> Result<(), Error> {
        self.blobs.lock().remove(digest).map(drop).ok_or_else(|| Error::NotFound(digest.clone()))
    }

    fn list(&self) -> Result<Vec<BlobInfo>, Error> {
        let blobs = self.blobs.lock();
        Ok(blobs
            .iter()
            .map(|(digest, (content, stored_at))| BlobInfo {
                digest: digest.clone(),
                size: content.len() as u64,
                stored_at: *stored_at,
            })
            .collect())
    }
}

impl Write for MemoryIngester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check.admit(bytes.len())?;
        self.check.add(bytes);
        self.content.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ingester for MemoryIngester {
    fn len(&self) -> u64 {
        self.check.len()
    }

    fn commit(self: Box<Self>) -> Result<BlobInfo, Error> {
        let Self { store, content, check } = *self;
        let (digest, size) = check.finish()?;
        let stored_at = SystemTime::now();
        store.blobs.lock().insert(digest.clone(), (content.into(), stored_at));
        Ok(BlobInfo { digest, size, stored_at })
    }
}
