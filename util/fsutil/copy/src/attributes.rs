use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use buildkit_util_fsutil::is_settable_xattr;
use buildkit_util_system::Timestamp;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, RawMode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fgetxattr, flistxattr, fsetxattr, futimens, lgetxattr, llistxattr, lsetxattr, utimensat,
};
use rustix::io::Errno;

use crate::{CopyOptions, Error, Owner};

/// What copies get of the attributes of their sources.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    options: &'a CopyOptions,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(options: &'a CopyOptions) -> Self {
        Self { options }
    }

    /// The owner of a copy, if it is not left as the system sets it.
    pub(crate) fn owner(self, stat: &Stat) -> Option<Owner> {
        let old = Owner { uid: stat.st_uid, gid: stat.st_gid };
        match &self.options.chown {
            Some(chown) => chown(Some(old)),
            None => Some(old),
        }
    }

    fn mode(self, stat: &Stat) -> Mode {
        let old = stat.st_mode & 0o7777;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let mode = match (&self.options.mode_change, self.options.mode) {
            (Some(change), _) => change.apply(old, is_dir),
            (None, Some(mode)) => mode & 0o7777,
            (None, None) => old,
        };
        Mode::from_raw_mode(mode as RawMode)
    }

    /// Whether a copy gets just the attributes of its source.
    pub(crate) fn are_kept(self, stat: &Stat) -> bool {
        let owner = self.owner(stat).is_none_or(|owner| (owner.uid, owner.gid) == (stat.st_uid, stat.st_gid));
        let time = self.options.time.is_none_or(|time| {
            (time.seconds, i64::from(time.nanoseconds)) == (stat.st_mtime, stat.st_mtime_nsec as i64)
        });
        owner && time && self.mode(stat) == Mode::from_raw_mode((stat.st_mode & 0o7777) as RawMode)
    }

    fn timestamps(self, stat: &Stat) -> Timestamps {
        let spec = |time: Timestamp| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds as _ };
        match self.options.time {
            Some(time) => Timestamps { last_access: spec(time), last_modification: spec(time) },
            None => Timestamps {
                last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
                last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
            },
        }
    }

    /// Sets the times of an open file or directory.
    pub(crate) fn times(self, stat: &Stat, target: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        futimens(target, &self.timestamps(stat)).map_err(|error| Error::io("utime", path, error))
    }

    /// Gives an open file or directory the attributes of another, but for an owner that it has already.
    pub(crate) fn apply(
        self,
        stat: &Stat,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        path: &Path,
        owned: bool,
    ) -> Result<(), Error> {
        if let Some(owner) = self.owner(stat).filter(|_| !owned) {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            fchown(target, Some(uid), Some(gid)).map_err(|error| Error::io("chown", path, error))?;
        }
        fchmod(target, self.mode(stat)).map_err(|error| Error::io("chmod", path, error))?;
        self.copy_xattrs(
            path,
            |list| flistxattr(source, list),
            |name, value| {
                let len = fgetxattr(source, name, &mut *value)?;
                fsetxattr(target, name, &value[..len], XattrFlags::empty())
            },
        )?;
        self.times(stat, target, path)
    }

    /// Gives something that is not opened, such as a link, the attributes of another.
    pub(crate) fn apply_at(
        self,
        stat: &Stat,
        source: (BorrowedFd<'_>, &CStr),
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
    ) -> Result<(), Error> {
        if let Some(owner) = self.owner(stat) {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| Error::io("chown", path, error))?;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            chmodat(dir, name, self.mode(stat), AtFlags::empty())
                .map_err(|error| Error::io("chmod", path, error))?;
        }
        let (source, target) = (through_descriptor(source.0, source.1), through_descriptor(dir, name));
        self.copy_xattrs(
            path,
            |list| llistxattr(source.as_c_str(), list),
            |name, value| {
                let len = lgetxattr(source.as_c_str(), name, &mut *value)?;
                lsetxattr(target.as_c_str(), name, &value[..len], XattrFlags::empty())
            },
        )?;
        utimensat(dir, name, &self.timestamps(stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::io("utime", path, error))
    }

    fn copy_xattrs(
        self,
        path: &Path,
        mut list: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
        mut copy: impl FnMut(&CStr, &mut [u8]) -> Result<(), Errno>,
    ) -> Result<(), Error> {
        let (mut short, mut long) = ([0u8; 512], Vec::new());
        let names = match list(&mut short) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
            Ok(len) => Ok(&short[..len]),
            Err(Errno::RANGE) => {
                // The kernel's limit of a list is 64 KiB.
                long.resize(64 << 10, 0);
                list(&mut long).map(|len| &long[..len])
            }
            Err(error) => Err(error),
        };
        let names = match names {
            Ok(names) => names,
            Err(_) if self.options.ignore_xattr_errors => return Ok(()),
            Err(error) => return Err(Error::io("list xattrs of", path, error)),
        };
        let mut value = vec![0u8; 64 << 10];
        for name in names.split_inclusive(|&byte| byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            if !name.to_str().is_ok_and(is_settable_xattr) {
                continue;
            }
            match copy(name, &mut value) {
                // Gone meanwhile.
                Ok(()) | Err(Errno::NODATA) => {}
                Err(_) if self.options.ignore_xattr_errors => {}
                Err(error) => return Err(Error::io("copy xattrs of", path, error)),
            }
        }
        Ok(())
    }
}

/// A path for calls that take no descriptors; it leads through one of our own.
fn through_descriptor(dir: BorrowedFd<'_>, name: &CStr) -> CString {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    // A name without a zero byte has none in a longer path either.
    CString::new(path).unwrap_or_default()
}
