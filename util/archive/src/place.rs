//! Puts single entries into a directory that is open.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use buildkit_util_overlay::is_overlay_xattr;
use buildkit_util_system::{Handle, Timestamp};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown,
    fsetxattr, futimens, mkdirat, mknodat, openat, statat,
};
use rustix::io::Errno;

use crate::header::{Header, Time, XATTR};
use crate::parents::Parent;
use crate::reader::{Chunk, Reader};
use crate::{Error, parents};

/// What an entry says about the inode.
pub(crate) struct Metadata<'a> {
    uid: u32,
    gid: u32,
    mode: u32,
    pub times: (Timestamp, Timestamp),
    xattrs: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Metadata<'a> {
    /// Checks the metadata of an entry.
    pub(crate) fn new(path: &Path, header: &'a Header) -> Result<Self, Error> {
        // The last number means "unchanged" to the kernel.
        let id = |id: i64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(header.uid), id(header.gid)) else {
            return Err(Error::refused(path, "its owner is out of bounds"));
        };
        let mtime = bound(header.mtime);
        let xattrs = header.records.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix(XATTR)?;
            // What overlayfs and other privileged parts of the system keep there is not for layers.
            let refused = is_overlay_xattr(name) || name.starts_with(b"trusted.");
            (!refused).then_some((name, value.as_slice()))
        });
        Ok(Self {
            uid,
            gid,
            mode: (header.mode & 0o7777) as u32,
            times: (bound(header.atime).max(mtime), mtime),
            xattrs: xattrs.collect(),
        })
    }

    /// Owner, attributes, mode: a change of the owner drops capabilities and some bits of the mode.
    fn set_fd(&self, fd: &OwnedFd, path: &Path) -> Result<(), Error> {
        fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
            .map_err(|error| Error::io("change the owner of", path, error))?;
        for (name, value) in &self.xattrs {
            match fsetxattr(fd, *name, value, XattrFlags::empty()) {
                // The file system has none.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(Error::io("set an extended attribute of", path, error)),
            }
        }
        fchmod(fd, Mode::from_raw_mode(self.mode))
            .map_err(|error| Error::io("change the mode of", path, error))
    }

    /// As `set_fd`, with the times, for what should not be opened.
    pub(crate) fn set(&self, handle: &Handle, path: &Path) -> Result<(), Error> {
        let fail = |action| move |error| parents::fail(action, path, error);
        handle.chown(self.uid, self.gid).map_err(fail("change the owner of"))?;
        let kind = handle.stat().map_err(fail("read the attributes of"))?;
        for (name, value) in &self.xattrs {
            use std::os::unix::ffi::OsStrExt;
            let ignored = |error: &buildkit_util_system::Error| {
                let is = |errno: Errno| error.errno() == Some(errno.raw_os_error());
                // Only files and directories have attributes of users.
                is(Errno::OPNOTSUPP)
                    || (is(Errno::PERM) && name.starts_with(b"user.") && !kind.is_file() && !kind.is_dir())
            };
            match handle.set_xattr(OsStr::from_bytes(name), value) {
                Err(error) if ignored(&error) => {}
                set => set.map_err(fail("set an extended attribute of"))?,
            }
        }
        if !kind.is_symlink() {
            handle.chmod(self.mode).map_err(fail("change the mode of"))?;
        }
        let (atime, mtime) = self.times;
        handle.set_times(Some(atime), Some(mtime)).map_err(fail("change the times of"))
    }
}

/// Times that file systems take: others are 1970, as the original has it.
fn bound(time: Option<Time>) -> Timestamp {
    // The last second whose nanoseconds a signed number of 64 bits can count.
    const MAX: i64 = i64::MAX / 1_000_000_000;
    match time {
        Some(Time { seconds: seconds @ 0..MAX, nanoseconds }) => Timestamp { seconds, nanoseconds },
        _ => Timestamp::default(),
    }
}

/// What is at a name; a symbolic link itself.
pub(crate) fn stat(parent: &Parent, name: &OsStr) -> rustix::io::Result<Option<Stat>> {
    match statat(&parent.root, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a file of the reader's current content.
pub(crate) fn file<R: std::io::Read>(
    parent: &Parent,
    name: &OsStr,
    path: &Path,
    metadata: &Metadata<'_>,
    reader: &mut Reader<R>,
) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match openat(&parent.root, name, flags, Mode::RUSR | Mode::WUSR) {
        Err(Errno::EXIST) => return Err(Failure::Exists),
        made => made.map_err(|error| Error::io("create", path, error))?,
    };
    let fail = |error| Error::io("write", path, error);
    let mut file = File::from(fd);
    let mut hole = false;
    while let Some(chunk) = reader.chunk()? {
        match chunk {
            Chunk::Data(bytes) => {
                file.write_all(bytes).map_err(fail)?;
                hole = false;
            }
            Chunk::Hole(count) => {
                let count =
                    i64::try_from(count).map_err(|_| Error::refused(path, "its size is out of bounds"))?;
                file.seek(SeekFrom::Current(count)).map_err(fail)?;
                hole = true;
            }
        }
    }
    if hole {
        let size = file.stream_position().map_err(fail)?;
        file.set_len(size).map_err(fail)?;
    }
    let fd = OwnedFd::from(file);
    metadata.set_fd(&fd, path)?;
    let spec = |time: Timestamp| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    let (atime, mtime) = metadata.times;
    futimens(&fd, &Timestamps { last_access: spec(atime), last_modification: spec(mtime) })
        .map_err(|error| Error::io("change the times of", path, error))?;
    Ok(())
}

/// Makes a directory, or changes the metadata of the one that is there. Its times are left for later. Returns
/// its inode.
pub(crate) fn directory(
    parent: &Parent,
    name: &OsStr,
    path: &Path,
    metadata: &Metadata<'_>,
) -> Result<u64, Failure> {
    let exists = match mkdirat(&parent.root, name, Mode::RWXU) {
        Ok(()) => false,
        Err(Errno::EXIST) => true,
        Err(error) => return Err(Error::io("create", path, error).into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match openat(&parent.root, name, flags, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) if exists => return Err(Failure::Exists),
        opened => opened.map_err(|error| Error::io("open the directory", path, error))?,
    };
    metadata.set_fd(&fd, path)?;
    let stat = rustix::fs::fstat(&fd).map_err(|error| Error::io("read the attributes of", path, error))?;
    Ok(stat.st_ino)
}

/// Makes a device or a pipe.
pub(crate) fn node(
    parent: &Parent,
    name: &OsStr,
    path: &Path,
    file_type: FileType,
    device: u64,
) -> Result<(), Failure> {
    match mknodat(parent.root.as_fd(), name, file_type, Mode::empty(), device) {
        Err(Errno::EXIST) => Err(Failure::Exists),
        made => made.map_err(|error| Error::io("create", path, error).into()),
    }
}

/// Why an entry could not be made.
pub(crate) enum Failure {
    /// Something else is there.
    Exists,
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}
