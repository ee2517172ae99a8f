//! Files that become blobs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use buildkit_util_cachedigest::Digest;

use crate::port::{BlobInfo, Check, Error, Ingester};

/// Where finished files go.
pub(crate) trait Shelf: Send + 'static {
    /// Moves a file that was verified to where its blob belongs.
    fn take(&self, written: &Path, digest: &Digest) -> Result<(), Error>;
}

/// A file that is written, and becomes a blob or is removed.
pub(crate) struct FileIngester<S: Shelf> {
    shelf: S,
    /// Empty once it has gone to its place.
    path: PathBuf,
    /// Open until the end: it may be locked.
    file: fs_err::File,
    check: Option<Check>,
}

impl<S: Shelf> FileIngester<S> {
    /// Writes into a file that was just made.
    pub(crate) fn new(shelf: S, path: PathBuf, file: fs_err::File, check: Check) -> Self {
        Self { shelf, path, file, check: Some(check) }
    }
}

impl<S: Shelf> Write for FileIngester<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let check = self.check.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        check.admit(bytes.len())?;
        let len = self.file.write(bytes)?;
        check.add(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Shelf> Ingester for FileIngester<S> {
    fn len(&self) -> u64 {
        self.check.as_ref().map_or(0, Check::len)
    }

    fn commit(mut self: Box<Self>) -> Result<BlobInfo, Error> {
        let Some(check) = self.check.take() else {
            return Err(Error::io("store a blob")(io::ErrorKind::BrokenPipe.into()));
        };
        let (digest, size) = check.finish()?;
        self.shelf.take(&self.path, &digest)?;
        self.path = PathBuf::new();
        Ok(BlobInfo { digest, size, stored_at: SystemTime::now() })
    }
}

impl<S: Shelf> Drop for FileIngester<S> {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty()
            && let Err(error) = fs_err::remove_file(&self.path)
        {
            tracing::debug!(%error, "unfinished blob not removed");
        }
    }
}

/// The error of a call for the file of a blob: there may be none.
pub(crate) fn absent(digest: &Digest, action: &str) -> impl FnOnce(io::Error) -> Error {
    let (digest, action) = (digest.clone(), format!("{action} blob `{digest}`"));
    move |source| match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound(digest),
        _ => Error::Io { action, source },
    }
}
