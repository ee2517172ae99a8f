use std::collections::HashSet;
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;

use crate::port::{BlobInfo, ContentStore, Error, Expected, Ingester, ReadBlob};

/// A store that has what is in another one too. Only the first one is written to.
pub struct Fallback {
    /// Where blobs are looked for first, stored and deleted.
    pub first: Arc<dyn ContentStore>,
    /// Where blobs are looked for that the first one has not.
    pub second: Arc<dyn ContentStore>,
}

impl ContentStore for Fallback {
    fn info(&self, digest: &Digest) -> Result<BlobInfo, Error> {
        match self.first.info(digest) {
            Err(Error::NotFound(_)) => self.second.info(digest),
            found => found,
        }
    }

    fn open(&self, digest: &Digest, size: Option<u64>) -> Result<Box<dyn ReadBlob>, Error> {
        match self.first.open(digest, size) {
            Err(Error::NotFound(_)) => self.second.open(digest, size),
            opened => opened,
        }
    }

    fn ingest(&self, expected: Expected) -> Result<Box<dyn Ingester>, Error> {
        self.first.ingest(expected)
    }

    fn delete(&self, digest: &Digest) -> Result<(), Error> {
        self.first.delete(digest)
    }

    fn list(&self) -> Result<Vec<BlobInfo>, Error> {
        let mut blobs = self.first.list()?;
        let seen: HashSet<Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
        blobs.extend(self.second.list()?.into_iter().filter(|blob| !seen.contains(&blob.digest)));
        Ok(blobs)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::MemoryStore;

    fn store(contents: &[&[u8]]) -> Arc<dyn ContentStore> {
        let store = MemoryStore::default();
        for content in contents {
            add(&store, content);
        }
        Arc::new(store)
    }

    fn add(store: &dyn ContentStore, content: &[u8]) -> Digest {
        let mut ingester = store.ingest(Expected::default()).expect("starts");
        ingester.write_all(content).expect("writes");
        ingester.commit().expect("commits").digest
    }

    #[test]
    fn both_are_read_and_one_is_written() {
        let (first, second) = (store(&[b"a", b"b"]), store(&[b"b", b"c"]));
        let both = Fallback { first: first.clone(), second: second.clone() };
        assert_eq!(both.list().expect("lists").len(), 3);
        for content in [b"a", b"b", b"c"] {
            let digest = Digest::sha256(content);
            assert_eq!(both.info(&digest).expect("is there").size, 1);
            let mut read = Vec::new();
            both.open(&digest, Some(1)).expect("is there").read_to_end(&mut read).expect("reads");
            assert_eq!(read, content);
        }
        let new = add(&both, b"d");
        assert!(first.info(&new).is_ok() && second.info(&new).is_err());
        assert!(matches!(both.info(&Digest::sha256(b"x")), Err(Error::NotFound(_))));
        assert!(matches!(both.delete(&Digest::sha256(b"c")), Err(Error::NotFound(_))));
        both.delete(&Digest::sha256(b"b")).expect("deletes");
        assert_eq!(both.list().expect("lists").len(), 4, "the other still has it");
    }
}
