use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, linkat, makedev, mknodat, openat,
    openat2, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::{DirEntry, Error, FileKind, FileStat, Handle, remove, walk};

/// How often a lookup is tried that concurrent renames disturb. The kernel asks for it with EAGAIN.
const LOOKUP_TRIES: usize = 128;

/// What [`Root::create_file`] does with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateFile {
    /// It must not exist.
    New,
    /// A regular file is emptied and keeps owner and mode; anything else is an error.
    Truncate,
    /// Whatever is there but a directory is removed first.
    Replace,
}

/// A directory out of which no access leads: `..`, absolute paths and absolute symbolic links end
/// at it. Paths may be given with or without a leading slash; they are cleaned as text first.
///
/// Every lookup is done by the kernel (`openat2` with `RESOLVE_IN_ROOT`) or component by component
/// without following links, so there is no moment between a check and a use.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens a directory of the host, following symbolic links.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(|fd| Self { fd })
            .map_err(|e| Error::io("open the directory", path, e))
    }

    /// A root from a descriptor of a directory.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Another handle of the same directory.
    pub fn try_clone(&self) -> Result<Self, Error> {
        self.fd.try_clone().map(|fd| Self { fd }).map_err(|e| Error::io("duplicate the handle of", "/", e))
    }

    /// The directory `path` as a root of its own: links in it end there.
    pub fn sub_root(&self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        self.lookup(path, OFlags::PATH | OFlags::DIRECTORY)
            .map(|fd| Self { fd })
            .map_err(|e| Error::io("open the directory", path, e))
    }

    /// Finds `path`, following symbolic links inside the root.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<Handle, Error> {
        let path = path.as_ref();
        self.lookup(path, OFlags::PATH)
            .map(|fd| Handle::new(fd, path))
            .map_err(|e| Error::io("find", path, e))
    }

    /// Finds `path`; if it is a symbolic link, the link itself.
    pub fn resolve_no_follow(&self, path: impl AsRef<Path>) -> Result<Handle, Error> {
        let path = path.as_ref();
        self.lookup(path, OFlags::PATH | OFlags::NOFOLLOW)
            .map(|fd| Handle::new(fd, path))
            .map_err(|e| Error::io("find", path, e))
    }

    /// Where `path` leads inside the root, as a path without symbolic links. The last components
    /// need not exist. The answer is for messages and keys; to use the file, use a handle.
    pub fn real_path(&self, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        walk::walk(self.as_fd(), path.as_ref(), &walk::Missing::Keep).map(|found| found.path)
    }

    /// Opens a regular file for reading. Pipes, sockets, devices and directories are
    /// [`Error::NotRegular`]; they are not opened, so the call never blocks.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File, Error> {
        self.resolve(path)?.open_file()
    }

    /// The content of a regular file of at most `limit` bytes.
    pub fn read_file(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, Error> {
        self.resolve(path)?.read(limit)
    }

    /// What `path` is, symbolic links followed.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<FileStat, Error> {
        self.resolve(path)?.stat()
    }

    /// What `path` is; if it is a symbolic link, the link itself.
    pub fn lstat(&self, path: impl AsRef<Path>) -> Result<FileStat, Error> {
        self.resolve_no_follow(path)?.stat()
    }

    /// The target of the symbolic link `path`.
    pub fn readlink(&self, path: impl AsRef<Path>) -> Result<OsString, Error> {
        self.resolve_no_follow(path)?.readlink()
    }

    /// The entries of a directory, sorted by name (bytes), without `.` and `..`.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<DirEntry>, Error> {
        let path = path.as_ref();
        let fail = |e: Errno| Error::io("read the directory", path, e);
        let fd = self.lookup(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(fail)?;
        let mut entries = Vec::new();
        for entry in Dir::new(fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                entries.push(DirEntry {
                    name: OsStr::from_bytes(name).to_owned(),
                    kind: FileKind::of(entry.file_type()),
                    ino: entry.ino(),
                });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Makes one directory with exactly this mode and, if given, owner (user, group).
    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32, owner: Option<(u32, u32)>) -> Result<(), Error> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        walk::make_dir(parent.as_fd(), &name, mode, owner, path).map(drop)
    }

    /// Makes a directory and all missing ones above it with exactly this mode and owner. Symbolic
    /// links on the way are followed inside the root, dangling ones too. Returns the directories
    /// that were made, outermost first, without links in their paths.
    pub fn mkdir_all(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<Vec<PathBuf>, Error> {
        let missing = walk::Missing::Make { mode, owner };
        walk::walk(self.as_fd(), path.as_ref(), &missing).map(|found| found.created)
    }

    /// Makes a regular file, open for reading and writing, with exactly this mode if it is new. The
    /// directory above must exist. A symbolic link at `path` is never followed.
    pub fn create_file(&self, path: impl AsRef<Path>, mode: u32, create: CreateFile) -> Result<File, Error> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let fail = |e: Errno| Error::io("create the file", path, e);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        for _ in 0..LOOKUP_TRIES {
            let new =
                openat(&parent, &*name, flags | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o600));
            match new {
                Ok(fd) => {
                    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777)).map_err(fail)?;
                    return Ok(File::from(fd));
                }
                Err(Errno::EXIST) if create != CreateFile::New => {}
                Err(e) => return Err(fail(e)),
            }
            if create == CreateFile::Replace {
                match unlinkat(&parent, &*name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(e) => return Err(fail(e)),
                }
            }
            let old =
                openat(&parent, &*name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            match old {
                Ok(fd) => {
                    let file = Handle::new(fd, path).open_file_rw()?;
                    file.set_len(0).map_err(|e| Error::io("create the file", path, e))?;
                    return Ok(file);
                }
                Err(Errno::NOENT) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Err(fail(Errno::AGAIN))
    }

    /// Makes a symbolic link at `path`. The target is stored as it is.
    pub fn symlink(&self, target: impl AsRef<OsStr>, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        symlinkat(target.as_ref().as_bytes(), &parent, &*name)
            .map_err(|e| Error::io("create the link", path, e))
    }

    /// Makes `path` another name of the inode `existing`; a symbolic link is not followed.
    pub fn hard_link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let (old_parent, old_name) = self.parent(existing.as_ref())?;
        let (parent, name) = self.parent(path)?;
        linkat(&old_parent, &*old_name, &parent, &*name, AtFlags::empty())
            .map_err(|e| Error::io("create the hard link", path, e))
    }

    /// Makes a named pipe, socket or device node with exactly this mode; `major` and `minor` matter
    /// for devices only. Other kinds are an error.
    pub fn mknod(
        &self,
        path: impl AsRef<Path>,
        kind: FileKind,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), Error> {
        let path = path.as_ref();
        let fail = |e: Errno| Error::io("create the node", path, e);
        let file_type = match kind {
            FileKind::Fifo => FileType::Fifo,
            FileKind::Socket => FileType::Socket,
            FileKind::CharDevice => FileType::CharacterDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            _ => return Err(fail(Errno::INVAL)),
        };
        let (parent, name) = self.parent(path)?;
        mknodat(&parent, &*name, file_type, Mode::from_raw_mode(0), makedev(major, minor)).map_err(fail)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Handle::new(openat(&parent, &*name, flags, Mode::empty()).map_err(fail)?, path).chmod(mode)
    }

    /// Renames within the root, replacing a file or an empty directory.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
        let from = from.as_ref();
        let (old_parent, old_name) = self.parent(from)?;
        let (parent, name) = self.parent(to.as_ref())?;
        renameat_with(&old_parent, &*old_name, &parent, &*name, RenameFlags::empty())
            .map_err(|e| Error::io("rename", from, e))
    }

    /// Removes a file or an empty directory; a symbolic link itself.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        remove::remove_one(parent.as_fd(), &name).map_err(|e| Error::io("remove", path, e))
    }

    /// Removes `path` and all below it; a symbolic link itself. What does not exist is no error.
    /// For the root itself, all that is in it is removed.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        if walk::components(path).is_empty() {
            for entry in self.read_dir("/")? {
                remove::remove_tree(self.as_fd(), &entry.name).map_err(|e| Error::io("remove", path, e))?;
            }
            return Ok(());
        }
        let (parent, name) = match self.parent(path) {
            Ok(found) => found,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        remove::remove_tree(parent.as_fd(), &name).map_err(|e| Error::io("remove", path, e))
    }

    /// The directory that holds the last component of `path`, and that component.
    fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString), Error> {
        let mut components = walk::components(path);
        let Some(name) = components.pop() else {
            return Err(Error::io("change the root through", path, Errno::BUSY));
        };
        let parent: PathBuf = components.into_iter().collect();
        self.lookup(&parent, OFlags::PATH | OFlags::DIRECTORY)
            .map(|fd| (fd, name))
            .map_err(|e| Error::io("find the directory of", path, e))
    }

    fn lookup(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut clean: PathBuf = walk::components(path).into_iter().collect();
        if clean.as_os_str().is_empty() {
            clean.push(".");
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..LOOKUP_TRIES {
            match openat2(&self.fd, &clean, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
