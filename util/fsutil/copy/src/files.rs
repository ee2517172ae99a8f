//! Copies regular files, those of trees on several threads.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, available_parallelism};

use buildkit_util_system::Root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, linkat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::attributes::Attributes;
use crate::content::{Buffer, Means};
use crate::{CopyOptions, Error, Owner};

/// Threads beside the one that walks. More wait for the file system, not for processors.
const MAX_THREADS: usize = 7;

/// Files of one directory. Its directories stay open until it is copied.
pub(crate) struct Batch {
    pub(crate) src: Arc<OwnedFd>,
    pub(crate) dst: Arc<OwnedFd>,
    pub(crate) src_path: PathBuf,
    pub(crate) dst_path: PathBuf,
    /// Name and status of each source.
    pub(crate) files: Vec<(CString, Stat)>,
    /// Whether the target directory was made for this, so that none of the names is taken.
    pub(crate) new_dir: bool,
    /// Whether that directory may give its group to files in it.
    pub(crate) set_group: bool,
    /// Released when all are copied, or one failed.
    pub(crate) _pending: Arc<()>,
}

/// Where something is copied to.
pub(crate) struct Target<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    pub(crate) path: &'a Path,
}

/// How files are copied, and whether that went wrong.
pub(crate) struct Files<'a> {
    dst_root: &'a Root,
    options: &'a CopyOptions,
    means: Means,
    /// The owner that files get without being told.
    own: Owner,
    error: Mutex<Option<Error>>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(dst_root: &'a Root, options: &'a CopyOptions) -> Self {
        let own = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        Self { dst_root, options, means: Means::new(), own, error: Mutex::default() }
    }

    /// What went wrong first on a thread.
    pub(crate) fn take_error(&self) -> Option<Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn has_failed(&self) -> bool {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Removes what a file or link replaces.
    pub(crate) fn make_way(&self, target: &Target<'_>) -> Result<(), Error> {
        match statat(target.dir, target.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("stat", target.path, error)),
            Ok(existing) if FileType::from_raw_mode(existing.st_mode) != FileType::Directory => {
                unlinkat(target.dir, target.name, AtFlags::empty())
                    .map_err(|error| Error::io("remove", target.path, error))
            }
            Ok(_) if self.options.always_replace => Ok(self.dst_root.remove_all(target.path)?),
            Ok(_) => Err(Error::IsDirectory(target.path.to_owned())),
        }
    }

    /// Copies the files of a batch, until one fails or one of another batch did.
    fn batch(&self, batch: &Batch, buffer: &mut Buffer) -> Result<(), Error> {
        let (src_dir, dir) = (batch.src.as_fd(), batch.dst.as_fd());
        for (name, stat) in &batch.files {
            if self.has_failed() {
                break;
            }
            let os_name = OsStr::from_bytes(name.to_bytes());
            let (src_path, path) = (batch.src_path.join(os_name), batch.dst_path.join(os_name));
            let target = Target { dir, name, path: &path };
            if !batch.new_dir {
                self.make_way(&target)?;
            }
            let own_group = batch.new_dir && !batch.set_group;
            let owned =
                own_group && Attributes::new(self.options).owner(stat).is_none_or(|it| it == self.own);
            self.file(stat, (src_dir, name, &src_path), &target, owned, buffer)?;
        }
        Ok(())
    }

    /// Makes a file of the source one of the destination, if that is allowed and nothing of it changes.
    fn link(
        &self,
        stat: &Stat,
        (src_dir, src_name): (BorrowedFd<'_>, &CStr),
        target: &Target<'_>,
    ) -> Result<bool, Error> {
        let Some(shared) = &self.options.share else { return Ok(false) };
        if !self.means.may_link() || !Attributes::new(self.options).are_kept(stat) || !shared.insert(stat) {
            return Ok(false);
        }
        match linkat(src_dir, src_name, target.dir, target.name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::MLINK) => Ok(false),
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.means.cannot_link();
                Ok(false)
            }
            Err(error) => Err(Error::io("link", target.path, error)),
        }
    }

    /// Copies a file to where nothing is. `owned` if it has its owner when it is made.
    fn file(
        &self,
        stat: &Stat,
        (src_dir, src_name, src_path): (BorrowedFd<'_>, &CStr, &Path),
        target: &Target<'_>,
        owned: bool,
        buffer: &mut Buffer,
    ) -> Result<(), Error> {
        if self.link(stat, (src_dir, src_name), target)? {
            return Ok(());
        }
        // Should it have become a pipe or a device meanwhile, this does not wait for it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut from = openat(src_dir, src_name, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| Error::io("open source", src_path, error))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = openat(target.dir, target.name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|error| Error::io("open target", target.path, error))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.means
            .copy(&mut from, &mut to, size, blocks, buffer)
            .map_err(|error| Error::io("copy", target.path, error))?;
        Attributes::new(self.options).apply(stat, from.as_fd(), to.as_fd(), target.path, owned)
    }
}

/// Threads that copy batches while somebody walks. They are started when there is enough to do, and
/// end with the scope.
pub(crate) struct Pool<'scope, 'env: 'scope> {
    scope: &'scope Scope<'scope, 'env>,
    files: &'env Files<'env>,
    buffer: Buffer,
    threads: Option<SyncSender<Batch>>,
    /// Batches so far.
    seen: usize,
}

impl<'scope, 'env> Pool<'scope, 'env> {
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, files: &'env Files<'env>) -> Self {
        Self { scope, files, buffer: Buffer::new(), threads: None, seen: 0 }
    }

    pub(crate) fn files(&self) -> &'env Files<'env> {
        self.files
    }

    /// Copies a file at once.
    pub(crate) fn copy_file(
        &mut self,
        stat: &Stat,
        source: (BorrowedFd<'_>, &CStr, &Path),
        target: &Target<'_>,
    ) -> Result<(), Error> {
        self.files.file(stat, source, target, false, &mut self.buffer)
    }

    /// Has a batch copied by a thread that has nothing else to do, or does it now.
    ///
    /// # Errors
    /// When a file of this batch, or one of an earlier one, failed.
    pub(crate) fn copy(&mut self, batch: Batch) -> Result<(), Error> {
        if let Some(error) = self.files.take_error() {
            return Err(error);
        }
        self.seen += 1;
        // A few files are copied sooner than a thread is started.
        if self.seen > 1 && self.threads.is_none() {
            self.threads = self.start();
        }
        let batch = match &self.threads {
            None => batch,
            Some(threads) => match threads.try_send(batch) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => batch,
            },
        };
        self.files.batch(&batch, &mut self.buffer)
    }

    fn start(&self) -> Option<SyncSender<Batch>> {
        let count = available_parallelism().map_or(1, usize::from).min(MAX_THREADS + 1) - 1;
        if count == 0 {
            return None;
        }
        let (sender, receiver) = sync_channel(count);
        let receiver = Arc::new(Mutex::new(receiver));
        let files = self.files;
        let started = (0..count).filter(|_| {
            let receiver = receiver.clone();
            let name = "copy-files".to_owned();
            Builder::new().name(name).spawn_scoped(self.scope, move || work(files, &receiver)).is_ok()
        });
        (started.count() > 0).then_some(sender)
    }
}

fn work(files: &Files<'_>, receiver: &Mutex<Receiver<Batch>>) {
    let mut buffer = Buffer::new();
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return };
        if let Err(error) = files.batch(&batch, &mut buffer) {
            files.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}
