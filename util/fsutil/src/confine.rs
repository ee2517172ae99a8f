//! Lookups that cannot leave a directory, whatever is in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How often a lookup is tried that concurrent renames disturb.
const TRIES: usize = 128;

/// Opens `path` below `root`; no symbolic link is followed anywhere. The empty path is the root.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Splits a clean relative path into its directory (empty for the root) and its name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Directories that were used last, open as `O_PATH`.
pub(crate) struct DirCache {
    root: OwnedFd,
    recent: Vec<(String, OwnedFd)>,
}

/// Directories that are kept open.
const KEPT: usize = 16;

impl DirCache {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, recent: Vec::with_capacity(KEPT) }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory `dir`; the empty path is the root.
    pub(crate) fn open(&mut self, dir: &str) -> rustix::io::Result<BorrowedFd<'_>> {
        if dir.is_empty() {
            return Ok(self.root.as_fd());
        }
        let at = match self.recent.iter().position(|(path, _)| path == dir) {
            Some(at) => at,
            None => {
                let fd = open_beneath(self.root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)?;
                if self.recent.len() == KEPT {
                    self.recent.remove(0);
                }
                self.recent.push((dir.to_owned(), fd));
                self.recent.len() - 1
            }
        };
        Ok(self.recent[at].1.as_fd())
    }

    /// Forgets `path` and everything below it, which is about to be removed or replaced.
    pub(crate) fn forget(&mut self, path: &str) {
        self.recent.retain(|(dir, _)| {
            dir.strip_prefix(path).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/'))
        });
    }
}
