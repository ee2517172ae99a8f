use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use buildkit_util_cachedigest::{Digest, Digester};
use fs_err::os::unix::fs::OpenOptionsExt;
use parking_lot::Mutex;
use walkdir::WalkDir;

use crate::file::{FileIngester, Shelf, absent};
use crate::port::{BlobInfo, Check, ContentStore, Error, Expected, Ingester, ReadBlob, require_sha256};

/// Blobs as files: `blobs/sha256/<hex>`, as in an OCI image layout (image-layout.md), and
/// `ingest/<number>` for those being written.
///
/// Nothing is synced, and disks forget. So a blob is hashed when it is opened for the first time, unless this
/// handle stored it, and again whenever its file was touched since; one that is not what it should be is removed.
/// Several handles on one directory are not meant to be. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    blobs: PathBuf,
    ingests: PathBuf,
    next: AtomicU64,
    /// Blobs that were hashed, and their files as they were then.
    verified: Mutex<HashMap<Digest, Stamp>>,
}

/// What is another when a file was written to or replaced. The time of change cannot be set by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    /// Seconds and nanoseconds.
    changed_at: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), changed_at: (file.ctime(), file.ctime_nsec()) }
    }
}

impl LocalStore {
    /// Opens the store in `root`, which is made if need be, and removes what was never finished.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        let failed =
            |source| Error::Io { action: format!("open the content store `{}`", root.display()), source };
        let (blobs, ingests) = (root.join("blobs/sha256"), root.join("ingest"));
        fs_err::create_dir_all(&blobs).map_err(failed)?;
        if ingests.exists() {
            fs_err::remove_dir_all(&ingests).map_err(failed)?;
        }
        fs_err::create_dir(&ingests).map_err(failed)?;
        let verified = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { root, blobs, ingests, next: AtomicU64::new(0), verified }) })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The file of a blob, whether it is there or not.
    ///
    /// # Errors
    /// [`Error::Algorithm`].
    pub fn path(&self, digest: &Digest) -> Result<PathBuf, Error> {
        self.inner.path(digest)
    }
}

impl Inner {
    fn path(&self, digest: &Digest) -> Result<PathBuf, Error> {
        require_sha256(digest)?;
        Ok(self.blobs.join(digest.encoded()))
    }

    /// Removes a damaged blob.
    fn damaged(&self, digest: &Digest, path: &Path) -> Error {
        tracing::warn!(%digest, "damaged blob removed");
        self.verified.lock().remove(digest);
        match fs_err::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Error::Io { action: format!("remove the damaged blob `{digest}`"), source: error }
            }
            _ => Error::Damaged(digest.clone()),
        }
    }
}

impl ContentStore for LocalStore {
    fn info(&self, digest: &Digest) -> Result<BlobInfo, Error> {
        let meta = fs_err::symlink_metadata(self.inner.path(digest)?).map_err(absent(digest, "look at"))?;
        let stored_at = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(BlobInfo { digest: digest.clone(), size: meta.len(), stored_at })
    }

    fn open(&self, digest: &Digest, size: Option<u64>) -> Result<Box<dyn ReadBlob>, Error> {
        let path = self.inner.path(digest)?;
        let mut file = fs_err::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(absent(digest, "open"))?;
        let found = file.metadata().map_err(Error::io(format!("look at blob `{digest}`")))?;
        if size.is_some_and(|size| size != found.len()) {
            return Err(self.inner.damaged(digest, &path));
        }
        let stamp = Stamp::of(&found);
        if self.inner.verified.lock().get(digest) != Some(&stamp) {
            let found = hash(&mut file).map_err(Error::io(format!("read blob `{digest}`")))?;
            if found != *digest {
                return Err(self.inner.damaged(digest, &path));
            }
            self.inner.verified.lock().insert(digest.clone(), stamp);
        }
        Ok(Box::new(file))
    }

    fn ingest(&self, expected: Expected) -> Result<Box<dyn Ingester>, Error> {
        let check = Check::new(expected)?;
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.ingests.join(number.to_string());
        let file = fs_err::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("start to store a blob"))?;
        Ok(Box::new(FileIngester::new(self.inner.clone(), path, file, check)))
    }

    fn delete(&self, digest: &Digest) -> Result<(), Error> {
        fs_err::remove_file(self.inner.path(digest)?).map_err(absent(digest, "remove"))?;
        self.inner.verified.lock().remove(digest);
        Ok(())
    }

    fn list(&self) -> Result<Vec<BlobInfo>, Error> {
        let failed = |error: io::Error| Error::io("list blobs")(error);
        let mut found = Vec::new();
        for entry in WalkDir::new(&self.inner.blobs).min_depth(1).max_depth(1) {
            let entry = entry.map_err(|error| failed(error.into()))?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(|name| Digest::parse(&format!("sha256:{name}")).ok())
            else {
                continue;
            };
            match self.info(&digest) {
                Ok(info) => found.push(info),
                // It was removed meanwhile.
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn hash(file: &mut fs_err::File) -> io::Result<Digest> {
    let mut digester = Digester::new();
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            len => digester.update(&buffer[..len]),
        }
    }
    file.rewind()?;
    Ok(digester.finish())
}

impl Shelf for Arc<Inner> {
    fn take(&self, written: &Path, digest: &Digest) -> Result<(), Error> {
        let target = self.path(digest)?;
        fs_err::rename(written, &target).map_err(Error::io(format!("store blob `{digest}`")))?;
        let stored = fs_err::metadata(&target).map_err(Error::io(format!("look at blob `{digest}`")))?;
        self.verified.lock().insert(digest.clone(), Stamp::of(&stored));
        Ok(())
    }
}
