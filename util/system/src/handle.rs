use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fstat,
    getxattr, listxattr, open, readlinkat, removexattr, setxattr, utimensat,
};

use crate::{Error, FileStat, Timestamp};

/// An inode that was found: later changes of names cannot make it another one. Having a handle
/// opens nothing, so it may stand for a device or a pipe without any effect.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    /// As the caller named it, for messages.
    path: PathBuf,
}

impl Handle {
    pub(crate) fn new(fd: OwnedFd, path: impl AsRef<Path>) -> Self {
        Self { fd, path: path.as_ref().to_owned() }
    }

    /// How the caller named the inode; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path that leads the kernel to this very inode while the handle lives, for calls that take
    /// only paths, such as `mount(2)`. It means something in this process only.
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// As [`proc_path`](Self::proc_path), for other processes while this one keeps the handle.
    pub fn proc_path_for_others(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()))
    }

    /// What the inode is.
    pub fn stat(&self) -> Result<FileStat, Error> {
        fstat(&self.fd).map(FileStat::from).map_err(|e| Error::io("read the attributes of", &self.path, e))
    }

    /// Opens a regular file for reading; anything else is [`Error::NotRegular`] and is not touched.
    pub fn open_file(&self) -> Result<File, Error> {
        self.open_with(OFlags::RDONLY)
    }

    /// Opens a regular file for writing what is there already; anything else is
    /// [`Error::NotRegular`] and is not touched.
    pub fn open_file_rw(&self) -> Result<File, Error> {
        self.open_with(OFlags::RDWR)
    }

    fn open_with(&self, flags: OFlags) -> Result<File, Error> {
        if !self.stat()?.is_file() {
            return Err(Error::NotRegular(self.path.clone()));
        }
        // A lease on a regular file could block as well: hence O_NONBLOCK, which reads ignore.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        open(self.proc_path(), flags, Mode::empty())
            .map(File::from)
            .map_err(|e| Error::io("open", &self.path, e))
    }

    /// The content of a regular file of at most `limit` bytes. Never reads more than that.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, Error> {
        let too_large = || Error::TooLarge { path: self.path.clone(), limit };
        let size = self.stat()?.size;
        let file = self.open_file()?;
        if size > limit {
            return Err(too_large());
        }
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut content);
        read.map_err(|e| Error::io("read", &self.path, e))?;
        if content.len() as u64 > limit { Err(too_large()) } else { Ok(content) }
    }

    /// The target of a symbolic link.
    pub fn readlink(&self) -> Result<OsString, Error> {
        readlinkat(&self.fd, "", Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(|e| Error::io("read the link", &self.path, e))
    }

    /// Changes permissions with setuid, setgid and sticky bits, whatever the umask. Symbolic links
    /// have none.
    pub fn chmod(&self, mode: u32) -> Result<(), Error> {
        chmod(self.proc_path(), Mode::from_raw_mode(mode & 0o7777))
            .map_err(|e| Error::io("change the mode of", &self.path, e))
    }

    /// Changes owner and group.
    pub fn chown(&self, uid: u32, gid: u32) -> Result<(), Error> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(&self.fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(|e| Error::io("change the owner of", &self.path, e))
    }

    /// Changes the times; `None` leaves one as it is.
    pub fn set_times(&self, atime: Option<Timestamp>, mtime: Option<Timestamp>) -> Result<(), Error> {
        let spec = |time: Option<Timestamp>| {
            let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
            time.map_or(omit, |t| Timespec { tv_sec: t.seconds, tv_nsec: t.nanoseconds.into() })
        };
        let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
        utimensat(&self.fd, "", &times, AtFlags::EMPTY_PATH)
            .map_err(|e| Error::io("change the times of", &self.path, e))
    }

    /// Names of the extended attributes, none where the file system has no attributes.
    pub fn list_xattrs(&self) -> Result<Vec<OsString>, Error> {
        let result = sized(|buffer| listxattr(self.proc_path(), buffer));
        let list = match result {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
                return Ok(Vec::new());
            }
            other => other.map_err(|e| Error::io("list the extended attributes of", &self.path, e))?,
        };
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect())
    }

    /// The value of an extended attribute, if it is set.
    pub fn get_xattr(&self, name: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>, Error> {
        let name = name.as_ref().as_bytes();
        match sized(|buffer| getxattr(self.proc_path(), name, buffer)) {
            Ok(value) => Ok(Some(value)),
            Err(e) if is_no_xattr(&e) => Ok(None),
            Err(e) => Err(Error::io("read an extended attribute of", &self.path, e)),
        }
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, name: impl AsRef<OsStr>, value: &[u8]) -> Result<(), Error> {
        setxattr(self.proc_path(), name.as_ref().as_bytes(), value, XattrFlags::empty())
            .map_err(|e| Error::io("set an extended attribute of", &self.path, e))
    }

    /// Removes an extended attribute, if it is set.
    pub fn remove_xattr(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        match removexattr(self.proc_path(), name.as_ref().as_bytes()).map_err(io::Error::from) {
            Err(e) if !is_no_xattr(&e) => Err(Error::io("remove an extended attribute of", &self.path, e)),
            _ => Ok(()),
        }
    }

    /// The descriptor itself (`O_PATH`).
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is_no_xattr(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::NODATA, Errno::OPNOTSUPP].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

/// Runs a call that fills a buffer, first with a guess, then with the size that the kernel asks for.
fn sized(mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) => {
                let needed = call(&mut [])?;
                // The value may grow between the calls: never less than twice what was too small.
                buffer = vec![0; needed.max(buffer.len() * 2)];
            }
            Err(e) => return Err(e.into()),
        }
    }
}
