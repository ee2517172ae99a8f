use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use buildkit_util_fsutil_types::Stat;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, statat};
use rustix::io::Errno;

use crate::confine::{open_beneath, split};
use crate::stat::{Inodes, stat_at};
use crate::{Entry, Error, FileSystem, Walk, mode};

/// Directories that a walk keeps open; those further up are opened again when it comes back.
const KEPT_OPEN: usize = 64;

/// A directory of this machine. Symbolic links in it are entries and are never followed.
#[derive(Debug)]
pub struct DirFs {
    root: OwnedFd,
}

impl DirFs {
    /// Opens a directory; symbolic links on the way to it are followed.
    ///
    /// # Errors
    /// When it is not there or not a directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(|root| Self { root })
            .map_err(|error| Error::io("open", &path.to_string_lossy(), error))
    }

    /// The tree below a descriptor of a directory.
    pub fn from_fd(root: OwnedFd) -> Self {
        Self { root }
    }
}

impl FileSystem for DirFs {
    fn walk(&self, target: &str) -> Result<Box<dyn Walk + '_>, Error> {
        Ok(Box::new(DirWalk::new(self.root.as_fd(), target, true)))
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        // Without NONBLOCK the open of a pipe put there meanwhile would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let fd =
            open_beneath(self.root.as_fd(), path, flags).map_err(|error| Error::io("open", path, error))?;
        let file = File::from(fd);
        let meta = file.metadata().map_err(|error| Error::io("stat", path, error))?;
        if !meta.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::io("open", path, source));
        }
        Ok(Box::new(file))
    }
}

struct Level {
    /// Path of the directory; empty for the root.
    path: String,
    /// Closed when the walk is far below it.
    fd: Option<OwnedFd>,
    /// Names still to come, last first.
    names: Vec<(String, u32)>,
}

/// A walk over a directory of this machine.
pub(crate) struct DirWalk<'a> {
    root: BorrowedFd<'a>,
    target: Option<String>,
    xattrs: bool,
    inodes: Inodes,
    levels: Vec<Level>,
    /// The entry given last: name, and whether it is a directory still to be entered.
    current: Option<(Entry, bool)>,
}

impl<'a> DirWalk<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>, target: &str, xattrs: bool) -> Self {
        let target = target.trim_matches('/');
        Self {
            root,
            target: Some(if target == "." { String::new() } else { target.to_owned() }),
            xattrs,
            inodes: Inodes::new(),
            levels: Vec::new(),
            current: None,
        }
    }

    /// Reads a directory and puts it on the stack.
    fn enter(&mut self, path: String) -> Result<(), Error> {
        let fail = |error: Errno| Error::io("open", &path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        // The parent is open as a rule, and a name in it is found sooner than a path.
        let parent = self.levels.last().and_then(|level| level.fd.as_ref());
        let fd = match parent {
            Some(parent) => open_beneath(parent.as_fd(), split(&path).1, flags),
            None => open_beneath(self.root, &path, flags),
        }
        .map_err(fail)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(fail)? {
            let entry = entry.map_err(|error| Error::io("read directory", &path, error))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let Ok(name) = std::str::from_utf8(name) else {
                let lossy = String::from_utf8_lossy(name);
                return Err(Error::NotUtf8(format!("{path}/{lossy}")));
            };
            let kind = match entry.file_type() {
                FileType::RegularFile => 0,
                FileType::Directory => mode::DIR,
                FileType::Symlink => mode::SYMLINK,
                FileType::Fifo => mode::NAMED_PIPE,
                FileType::Socket => mode::SOCKET,
                FileType::CharacterDevice => mode::DEVICE | mode::CHAR_DEVICE,
                FileType::BlockDevice => mode::DEVICE,
                FileType::Unknown => match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(st) => mode::from_posix(st.st_mode) & mode::TYPE,
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(Error::io("lstat", name, error)),
                },
            };
            names.push((name.to_owned(), kind));
        }
        names.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        if let Some(far) = self.levels.len().checked_sub(KEPT_OPEN) {
            self.levels[far].fd = None;
        }
        self.levels.push(Level { path, fd: Some(fd), names });
        Ok(())
    }

    /// The directory that the current entry is in.
    fn parent(&mut self) -> Result<BorrowedFd<'_>, Error> {
        let Some(level) = self.levels.last_mut() else { return Ok(self.root) };
        if level.fd.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let fd = open_beneath(self.root, &level.path, flags)
                .map_err(|error| Error::io("open", &level.path, error))?;
            level.fd = Some(fd);
        }
        Ok(level.fd.as_ref().map_or(self.root, |fd| fd.as_fd()))
    }
}

impl Walk for DirWalk<'_> {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        if let Some(target) = self.target.take() {
            if target.is_empty() {
                self.enter(target)?;
            } else {
                let (dir, name) = split(&target);
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let fd = match open_beneath(self.root, dir, flags) {
                    Ok(fd) => fd,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                    Err(error) => return Err(Error::io("open", dir, error)),
                };
                let kind = match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(st) => mode::from_posix(st.st_mode) & mode::TYPE,
                    Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                    Err(error) => return Err(Error::io("lstat", &target, error)),
                };
                let names = vec![(name.to_owned(), kind)];
                self.levels.push(Level { path: dir.to_owned(), fd: Some(fd), names });
            }
        }
        if let Some((entry, true)) = self.current.take() {
            match self.enter(entry.path) {
                // Gone, or no directory any more.
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
        while let Some(level) = self.levels.last_mut() {
            let Some((name, kind)) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let path = if level.path.is_empty() { name } else { format!("{}/{name}", level.path) };
            let entry = Entry { path, kind };
            self.current = Some((entry.clone(), entry.is_dir()));
            return Ok(Some(entry));
        }
        Ok(None)
    }

    fn stat(&mut self) -> Result<Stat, Error> {
        let Some(entry) = self.current.as_ref().map(|(entry, _)| entry.clone()) else {
            return Err(Error::io("lstat", "", io::Error::from(io::ErrorKind::NotFound)));
        };
        let mut inodes = std::mem::take(&mut self.inodes);
        let xattrs = self.xattrs;
        let stat = self
            .parent()
            .and_then(|dir| stat_at(dir, split(&entry.path).1, &entry.path, Some(&mut inodes), xattrs));
        self.inodes = inodes;
        stat
    }

    fn skip_dir(&mut self) {
        if let Some((_, enter)) = &mut self.current {
            *enter = false;
        }
    }
}
