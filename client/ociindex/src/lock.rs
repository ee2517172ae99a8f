use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// How long another process is waited for. What it does takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// A lock file that is held. A writer removes it in the end, as the original's programs do.
pub(crate) struct Lock {
    file: fs_err::File,
    path: Option<PathBuf>,
}

impl Lock {
    /// Keeps out everybody else.
    pub(crate) fn write(path: &Path) -> Result<Self, Error> {
        let file = acquire(path, true)?.ok_or_else(|| Error::Locked(path.to_owned()))?;
        Ok(Self { file, path: Some(path.to_owned()) })
    }

    /// Keeps out writers, if there are any: without a lock file nobody writes, so that reading leaves no traces.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Error> {
        Ok(acquire(path, false)?.map(|file| Self { file, path: None }))
    }
}

fn acquire(path: &Path, is_writer: bool) -> Result<Option<fs_err::File>, Error> {
    let operation = if is_writer {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    let started = Instant::now();
    loop {
        let mut options = fs_err::OpenOptions::new();
        options.read(true).write(is_writer).create(is_writer).truncate(false);
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if !is_writer && is_no_lock(&error) => return Ok(None),
            Err(error) => return Err(Error::io("lock", path)(error)),
        };
        match flock(file.file(), operation) {
            // Who held it before may have removed it: then it keeps out nobody.
            Ok(()) if is_current(&file, path) => return Ok(Some(file)),
            Ok(()) | Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Locked(path.to_owned())),
            Err(error) => return Err(Error::io("lock", path)(error.into())),
        }
    }
}

/// Nobody writes, or nobody could be kept from it.
fn is_no_lock(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

fn is_current(file: &fs_err::File, path: &Path) -> bool {
    let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    match (file.metadata(), fs_err::symlink_metadata(path)) {
        (Ok(held), Ok(found)) => id(held) == id(found),
        _ => false,
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // While it is held, so that it is nobody else's that is removed. One that stays does no harm.
            let _ = fs_err::remove_file(path);
        }
        let _ = flock(self.file.file(), FlockOperation::Unlock);
    }
}
