use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use buildkit_util_cachedigest::Digest;
use rustix::fs::{FlockOperation, flock};
use walkdir::WalkDir;

use crate::file::{FileIngester, Shelf, absent};
use crate::port::{BlobInfo, Check, ContentStore, Error, Expected, Ingester, ReadBlob};

/// Start of the names of files that are written.
const PREFIX: &str = "blob-";
/// Age from which a file that nobody writes is a leftover; younger ones may be about to be locked.
const LEFTOVER: Duration = Duration::from_secs(60);
/// Directories of blobs that are looked into, by algorithm.
const ALGORITHMS: &[&str] = &["sha256", "sha384", "sha512"];

/// The blobs of an OCI image layout that belongs to somebody else, such as a user.
///
/// Nothing is made before something is stored, so that it may stand on a file system that cannot be written.
/// Blobs may be symbolic links, as build tools make them. A blob that is damaged stays where it is: it is not
/// ours to remove. Blobs are written into `ingest`, where containerd has them too, and renamed; what a process left there
/// that was killed goes when the next one writes. Cheap to clone; any number of handles, of any process, may share the
/// directory.
#[derive(Clone, Debug)]
pub struct LayoutStore {
    root: Arc<Path>,
    /// Whether leftovers were looked for.
    is_swept: Arc<AtomicBool>,
}

impl LayoutStore {
    /// The blobs of the layout in `root`, which need not exist until something is stored.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into().into(), is_swept: Arc::default() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn dir(&self, algorithm: &str) -> PathBuf {
        self.root.join("blobs").join(algorithm)
    }

    /// Removes files of processes that were killed: nobody has them locked.
    fn sweep(&self, ingests: &Path) {
        for entry in WalkDir::new(ingests).min_depth(1).max_depth(1).into_iter().flatten() {
            let is_ours = entry.file_type().is_file()
                && entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
            let age = entry.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
            if !is_ours || age.is_none_or(|age| age < LEFTOVER) {
                continue;
            }
            let Ok(file) = fs_err::File::open(entry.path()) else { continue };
            if flock(file.file(), FlockOperation::NonBlockingLockExclusive).is_ok()
                && let Err(error) = fs_err::remove_file(entry.path())
            {
                tracing::debug!(%error, "unfinished blob not removed");
            }
        }
    }

    /// The file of a blob. The form of a digest of these algorithms makes it safe as a name.
    fn path(&self, digest: &Digest) -> Result<PathBuf, Error> {
        if !ALGORITHMS.contains(&digest.algorithm()) {
            return Err(Error::Algorithm(digest.clone()));
        }
        Ok(self.dir(digest.algorithm()).join(digest.encoded()))
    }
}

impl ContentStore for LayoutStore {
    fn info(&self, digest: &Digest) -> Result<BlobInfo, Error> {
        let meta = fs_err::metadata(self.path(digest)?).map_err(absent(digest, "look at"))?;
        if !meta.is_file() {
            return Err(Error::NotFound(digest.clone()));
        }
        let stored_at = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(BlobInfo { digest: digest.clone(), size: meta.len(), stored_at })
    }

    fn open(&self, digest: &Digest, size: Option<u64>) -> Result<Box<dyn ReadBlob>, Error> {
        // Opening what is no file, such as a pipe, would wait.
        let found = self.info(digest)?.size;
        if let Some(size) = size.filter(|size| *size != found) {
            return Err(Error::mismatch(digest, "size", size, found));
        }
        let file = fs_err::File::open(self.path(digest)?).map_err(absent(digest, "open"))?;
        Ok(Box::new(file))
    }

    fn ingest(&self, expected: Expected) -> Result<Box<dyn Ingester>, Error> {
        /// Tells apart what one process writes.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let check = Check::new(expected)?;
        let failed = || Error::io(format!("start to store a blob in `{}`", self.root.display()));
        let ingests = self.root.join("ingest");
        fs_err::create_dir_all(&ingests).map_err(failed())?;
        if !self.is_swept.swap(true, Ordering::Relaxed) {
            self.sweep(&ingests);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = ingests.join(format!("{PREFIX}{pid}-{number}-{}", now.as_nanos()));
        let file = fs_err::OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed())?;
        // Ends with the file. Where files cannot be locked, nothing is ever taken for a leftover.
        let _ = flock(file.file(), FlockOperation::NonBlockingLockExclusive);
        Ok(Box::new(FileIngester::new(self.clone(), path, file, check)))
    }

    fn delete(&self, digest: &Digest) -> Result<(), Error> {
        fs_err::remove_file(self.path(digest)?).map_err(absent(digest, "remove"))
    }

    fn list(&self) -> Result<Vec<BlobInfo>, Error> {
        let mut found = Vec::new();
        for algorithm in ALGORITHMS {
            for entry in WalkDir::new(self.dir(algorithm)).min_depth(1).max_depth(1) {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                        continue;
                    }
                    Err(error) => return Err(Error::io("list blobs")(error.into())),
                };
                let digest = entry.file_name().to_str().map(|name| format!("{algorithm}:{name}"));
                let Some(digest) = digest.and_then(|digest| Digest::parse(&digest).ok()) else { continue };
                match self.info(&digest) {
                    Ok(info) => found.push(info),
                    // It was removed meanwhile, or is no file.
                    Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }
}

impl Shelf for LayoutStore {
    fn take(&self, written: &Path, digest: &Digest) -> Result<(), Error> {
        let failed = || Error::io(format!("store blob `{digest}` in `{}`", self.root.display()));
        fs_err::create_dir_all(self.dir(digest.algorithm())).map_err(failed())?;
        fs_err::rename(written, self.path(digest)?).map_err(failed())
    }
}
