use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, BorrowedFd};

use buildkit_util_fsutil_types::Stat;
use bytes::Bytes;
use rustix::fs::{AtFlags, lgetxattr, llistxattr, readlinkat, statat};
use rustix::io::Errno;

use crate::{Error, mode};

/// First path of each inode that has several, so that the others become links to it.
pub(crate) type Inodes = HashMap<(u64, u64), String>;

/// Whether an extended attribute from a peer is set on files. Attributes that steer an overlay file
/// system are not: they would decide what is seen of other layers.
pub fn is_settable_xattr(name: &str) -> bool {
    !name.starts_with("trusted.overlay.") && !name.starts_with("user.overlay.")
}

/// The attributes of `name` in a directory, as entry `path`. `inodes` finds hard links among the
/// entries it is given; `xattrs` says whether extended attributes are wanted.
pub(crate) fn stat_at(
    dir: BorrowedFd<'_>,
    name: &str,
    path: &str,
    inodes: Option<&mut Inodes>,
    xattrs: bool,
) -> Result<Stat, Error> {
    let st = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| Error::io("lstat", path, error))?;
    let go_mode = mode::from_posix(st.st_mode);
    let mut stat = Stat {
        path: path.to_owned(),
        mode: go_mode & !mode::SOCKET,
        uid: st.st_uid,
        gid: st.st_gid,
        mod_time: nanoseconds(st.st_mtime, st.st_mtime_nsec as i64),
        ..Stat::default()
    };
    if !mode::is_dir(go_mode) {
        stat.size = st.st_size;
        if go_mode & mode::DEVICE != 0 {
            // Device numbers as Linux packs them for user space, 12 bits of major and 20 of minor.
            let device: u64 = st.st_rdev;
            stat.devmajor = ((device >> 8) & 0xfff) as i64;
            stat.devminor = ((device & 0xff) | ((device >> 12) & 0xf_ff00)) as i64;
        }
        if mode::is_symlink(go_mode) {
            let target =
                readlinkat(dir, name, Vec::new()).map_err(|error| Error::io("readlink", path, error))?;
            stat.linkname = target.into_string().map_err(|_| Error::NotUtf8(path.to_owned()))?;
        } else if let Some(inodes) = inodes
            && st.st_nlink > 1
        {
            match inodes.entry((st.st_dev, st.st_ino)) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    stat.linkname.clone_from(first.get());
                }
                std::collections::hash_map::Entry::Vacant(slot) => {
                    slot.insert(path.to_owned());
                }
            }
        }
    }
    if xattrs {
        stat.xattrs = read_xattrs(dir, name, path)?;
    }
    Ok(stat)
}

/// Seconds and nanoseconds as nanoseconds since 1970, at the ends of the range if out of it.
pub(crate) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

fn read_xattrs(dir: BorrowedFd<'_>, name: &str, path: &str) -> Result<BTreeMap<String, Bytes>, Error> {
    // The calls take paths only. This one goes through our own descriptor, so what is in the tree
    // cannot lead it elsewhere.
    let full = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    let mut found = BTreeMap::new();
    let mut small = [0u8; 1024];
    let names = match llistxattr(&full, &mut small) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(found),
        Ok(len) => small[..len].to_vec(),
        Err(Errno::RANGE) => {
            // The kernel's limit of a list.
            let mut large = vec![0u8; 64 << 10];
            let len = llistxattr(&full, &mut large)
                .map_err(|error| Error::io("list extended attributes of", path, error))?;
            large.truncate(len);
            large
        }
        Err(error) => return Err(Error::io("list extended attributes of", path, error)),
    };
    let mut value = vec![0u8; 64 << 10];
    for key in names.split(|&byte| byte == 0) {
        let Ok(key) = std::str::from_utf8(key) else { continue };
        if key.is_empty() || key.starts_with("com.apple.") {
            continue;
        }
        // Some attributes are listed but may not be read.
        if let Ok(len) = lgetxattr(&full, key, &mut value) {
            found.insert(key.to_owned(), Bytes::copy_from_slice(&value[..len]));
        }
    }
    Ok(found)
}

/// The attributes of one path of the host, as an entry of its own name; a symbolic link itself.
///
/// # Errors
/// When it cannot be looked at.
pub fn stat_of(path: &std::path::Path) -> Result<Stat, Error> {
    let shown = path.to_string_lossy().into_owned();
    let name = path
        .file_name()
        .map(|name| name.to_str().ok_or_else(|| Error::NotUtf8(shown.clone())))
        .transpose()?
        .unwrap_or(".");
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => std::path::Path::new("."),
        None => path,
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, rustix::fs::Mode::empty())
        .map_err(|error| Error::io("open", &shown, error))?;
    stat_at(std::os::fd::AsFd::as_fd(&dir), name, name, None, true)
}
