use std::collections::HashSet;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};

use crate::Usage;

/// An inode of any file system.
pub(crate) type Inode = (u64, u64);

/// Disk use of a tree, its root included: bytes allocated, each inode once.
///
/// # Errors
/// When the tree cannot be read.
pub fn usage_of_tree(root: &Path) -> io::Result<Usage> {
    usage_without(root, &HashSet::new())
}

/// As [`usage_of_tree`], without inodes that belong to somebody else.
pub(crate) fn usage_without(root: &Path, foreign: &HashSet<Inode>) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let stat = rustix::fs::lstat(root)?;
    usage.size += blocks(&stat);
    usage.inodes += 1;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(usage);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut pending = vec![root.to_owned()];
    let mut buffer = Vec::with_capacity(32 << 10);
    while let Some(dir) = pending.pop() {
        let fd = rustix::fs::openat(CWD, &dir, flags, Mode::empty())?;
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // An active snapshot may change meanwhile.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_dir {
                use std::os::unix::ffi::OsStrExt;
                pending.push(dir.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            } else if stat.st_nlink > 1 {
                let inode = (stat.st_dev, stat.st_ino);
                if foreign.contains(&inode) || !seen.insert(inode) {
                    continue;
                }
            }
            usage.size += blocks(&stat);
            usage.inodes += 1;
        }
    }
    Ok(usage)
}

fn blocks(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}
