use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use crate::port::Error;

/// Where the parts of a store are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The database in use.
    pub(super) fn db(&self) -> PathBuf {
        self.root.join("db")
    }

    /// A database being made to take the place of the one in use.
    pub(super) fn new_db(&self) -> PathBuf {
        self.root.join("db.new")
    }

    /// The one whose place is being taken.
    pub(super) fn old_db(&self) -> PathBuf {
        self.root.join("db.old")
    }

    /// A place for what is left of a damaged database, laid out like this one.
    pub(super) fn salvage(&self) -> Self {
        Self::new(self.root.join("salvage"))
    }

    /// Exists only while a database is closed in order.
    pub(super) fn clean_marker(&self) -> PathBuf {
        self.root.join("clean")
    }

    /// Takes the lock of the directory, made if need be, for the life of the returned file.
    pub(super) fn lock(&self) -> Result<fs_err::File, Error> {
        let io = |action: &str, source| Error::Io {
            action: format!("{action} `{}`", self.root.display()),
            source,
        };
        fs_err::create_dir_all(&self.root).map_err(|error| io("make", error))?;
        let file = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join("lock"))
            .map_err(|error| io("open the lock of", error))?;
        match flock(file.file(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: self.root.clone() }),
            Err(error) => Err(io("lock", error.into())),
        }
    }

    /// Ends a replacement that a crash interrupted, and removes what sled cannot stand.
    pub(super) fn repair(&self) {
        let (db, new, old) = (self.db(), self.new_db(), self.old_db());
        if !db.exists() {
            // Between the two renames of `replace`: the new one is complete.
            let source = if new.exists() && old.exists() { &new } else { &old };
            if source.exists() {
                log_failure("restore the metadata database", fs_err::rename(source, &db));
            }
        }
        for leftover in [&new, &old, &self.salvage().root] {
            if leftover.exists() {
                log_failure("remove a leftover database", fs_err::remove_dir_all(leftover));
            }
        }
        // sled takes an unfinished snapshot file for damage (spacejam/sled#1527).
        for entry in fs_err::read_dir(&db).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("snap.") && name.ends_with(".generating") {
                log_failure("remove an unfinished snapshot", fs_err::remove_file(entry.path()));
            }
        }
    }

    /// Puts the new database in the place of the old one. Both must be closed.
    pub(super) fn replace(&self) -> std::io::Result<()> {
        sync_files(&self.new_db())?;
        if self.db().exists() {
            fs_err::rename(self.db(), self.old_db())?;
        }
        fs_err::rename(self.new_db(), self.db())?;
        fs_err::File::open(&self.root)?.sync_all()?;
        if self.old_db().exists() {
            fs_err::remove_dir_all(self.old_db())?;
        }
        Ok(())
    }

    /// Moves a database that cannot be used out of the way. Only the newest such one is kept, so
    /// that repeated damage does not fill the disk.
    pub(super) fn set_aside(&self, db: &Path) -> Option<PathBuf> {
        let broken: BTreeSet<PathBuf> = fs_err::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("db.broken-"))
            .map(|entry| entry.path())
            .collect();
        for path in broken {
            log_failure("remove an older broken database", fs_err::remove_dir_all(path));
        }
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let target = self.root.join(format!("db.broken-{stamp}"));
        match fs_err::rename(db, &target) {
            Ok(()) => Some(target),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "cannot set a broken metadata database aside, removing it");
                log_failure("remove a broken database", fs_err::remove_dir_all(db));
                None
            }
        }
    }

    /// Bytes allocated for the database in use.
    pub(super) fn size(&self) -> u64 {
        allocated(&self.db())
    }
}

/// Bytes allocated below a directory. Files that vanish meanwhile count nothing.
pub(super) fn allocated(dir: &Path) -> u64 {
    let mut total = 0;
    for entry in fs_err::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => total += allocated(&entry.path()),
            Ok(meta) => total += meta.blocks() * 512,
            Err(_) => {}
        }
    }
    total
}

fn sync_files(dir: &Path) -> std::io::Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        if entry.metadata()?.is_dir() {
            sync_files(&entry.path())?;
        } else {
            fs_err::File::open(entry.path())?.sync_all()?;
        }
    }
    fs_err::File::open(dir)?.sync_all()
}

pub(super) fn log_failure<T>(action: &str, result: std::io::Result<T>) {
    if let Err(error) = result {
        tracing::warn!(%error, "failed to {action}");
    }
}
