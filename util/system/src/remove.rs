//! Removal of trees that somebody else made: no links followed, any depth, bounded descriptors.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Directories that are open at a time. Deeper ones are first moved up to the top of the tree.
const MAX_OPEN: usize = 64;

/// Removes a file or an empty directory.
pub(crate) fn remove_one(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    match unlinkat(parent, name.as_bytes(), AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(parent, name.as_bytes(), AtFlags::REMOVEDIR),
        result => result,
    }
}

/// Bound of the names that are tried for directories moved up.
const MAX_MOVES: u64 = 1 << 32;

struct Level {
    fd: OwnedFd,
    name: CString,
    entries: Vec<CString>,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: CString) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, &name, flags, Mode::empty())?;
        let entries = names(&fd)?;
        Ok(Self { fd, name, entries })
    }
}

fn names(fd: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Removes what `name` in `parent` is, with all below it. What is not there is no error.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    match unlinkat(parent, name.as_bytes(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(e),
    }
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    let mut levels = vec![Level::open(parent, name)?];
    let mut moved = 0_u64;
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.pop() else {
            let Some(done) = levels.pop() else { break };
            let above = levels.last().map_or(parent, |level| level.fd.as_fd());
            match unlinkat(above, &done.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                // New entries appeared meanwhile: moved up by us, or made by somebody else.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    let entries = names(&done.fd)?;
                    levels.push(Level { entries, ..done });
                }
                Err(e) => return Err(e),
            }
            continue;
        };
        match unlinkat(&level.fd, &entry, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) if levels.len() < MAX_OPEN => {
                let above = levels.last().map_or(parent, |level| level.fd.as_fd());
                match Level::open(above, entry) {
                    Ok(next) => levels.push(next),
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(e),
                }
            }
            Err(Errno::ISDIR) => {
                if let (Some(top), Some(deepest)) = (levels.first(), levels.last()) {
                    // A name that the tree's maker has taken is passed over.
                    loop {
                        moved += 1;
                        match renameat(&deepest.fd, &entry, &top.fd, format!(".buildkit-removed-{moved}")) {
                            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) if moved < MAX_MOVES => {}
                            result => break result?,
                        }
                    }
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
