use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use buildkit_util_overlay::is_overlay_xattr;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};

use crate::usage::Inode;

/// Copies a tree into the existing directory `target`, with owners, modes, times, extended
/// attributes, devices and hard links. Content is shared where the file system can.
///
/// # Errors
/// When something cannot be read or made.
pub fn copy_tree(source: &Path, target: &Path) -> io::Result<()> {
    let mut links: HashMap<Inode, PathBuf> = HashMap::new();
    // Trees may be deeper than the stack of a thread, and than a process may have files open.
    let mut pending = vec![(source.to_owned(), target.to_owned())];
    let mut dirs = vec![(source.to_owned(), rustix::fs::lstat(source)?, target.to_owned())];
    while let Some((source, target)) = pending.pop() {
        for entry in fs_err::read_dir(source)? {
            let entry = entry?;
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            let stat = rustix::fs::lstat(&from)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                rustix::fs::mkdir(&to, Mode::RWXU)?;
                dirs.push((from.clone(), stat, to.clone()));
                pending.push((from, to));
                continue;
            }
            if stat.st_nlink > 1 {
                if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
                    rustix::fs::link(first, &to)?;
                    continue;
                }
                links.insert((stat.st_dev, stat.st_ino), to.clone());
            }
            copy_file(&from, &stat, &to)?;
        }
    }
    // When nothing is put into them any more, and what is in them first: they may not be entered afterwards.
    for (from, stat, to) in dirs.iter().rev() {
        copy_metadata(from, stat, to)?;
        set_times(to, stat)?;
    }
    Ok(())
}

/// Copies one file that is not a directory to a path where nothing is.
pub(crate) fn copy_file(source: &Path, stat: &Stat, target: &Path) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => copy_content(source, target)?,
        FileType::Symlink => {
            let link = rustix::fs::readlink(source, Vec::new())?;
            rustix::fs::symlink(link.as_c_str(), target)?;
        }
        FileType::Directory => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
        kind => rustix::fs::mknodat(CWD, target, kind, Mode::RUSR, stat.st_rdev)?,
    }
    copy_metadata(source, stat, target)?;
    set_times(target, stat)
}

fn copy_content(source: &Path, target: &Path) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::open(source, read, Mode::empty())?;
    let to = rustix::fs::open(target, write, Mode::RUSR | Mode::WUSR)?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    // The standard library uses copy_file_range and falls back to reading and writing.
    io::copy(&mut std::fs::File::from(from), &mut std::fs::File::from(to))?;
    Ok(())
}

/// Owner, then mode, then attributes: a change of the owner drops file capabilities.
pub(crate) fn copy_metadata(source: &Path, stat: &Stat, target: &Path) -> io::Result<()> {
    set_owner_and_mode(stat, target)?;
    for name in list_xattrs(source)? {
        if is_overlay_xattr(&name) {
            continue;
        }
        let Some(value) = get_xattr(source, &name)? else { continue };
        if let Err(error) = rustix::fs::lsetxattr(target, name.as_slice(), &value, XattrFlags::empty()) {
            // File systems and user namespaces refuse some of them; upstream goes on as well.
            tracing::debug!(
                %error,
                path = %target.display(),
                name = %String::from_utf8_lossy(&name),
                "extended attribute not copied"
            );
        }
    }
    Ok(())
}

pub(crate) fn set_owner_and_mode(stat: &Stat, target: &Path) -> io::Result<()> {
    rustix::fs::chownat(
        CWD,
        target,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmod(target, Mode::from_raw_mode(stat.st_mode))?;
    }
    Ok(())
}

pub(crate) fn set_times(target: &Path, stat: &Stat) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn list_xattrs(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![0u8; 1024];
    let names = loop {
        match rustix::fs::llistxattr(path, &mut buffer[..]) {
            Ok(len) => {
                buffer.truncate(len);
                break buffer;
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn get_xattr(path: &Path, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; 1024];
    loop {
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(rustix::io::Errno::RANGE) if value.len() < 1 << 20 => value.resize(value.len() * 8, 0),
            Err(rustix::io::Errno::NODATA) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_may_be_as_deep_as_paths_are_long() {
        let temp = tempfile::tempdir().expect("temp dir");
        let [source, target] = ["source", "target"].map(|name| temp.path().join(name));
        let depth = (4090 - source.as_os_str().len()) / 2;
        let mut deepest = source.clone();
        std::fs::create_dir(&source).expect("mkdir");
        std::fs::create_dir(&target).expect("mkdir");
        for _ in 0..depth {
            deepest.push("d");
            std::fs::create_dir(&deepest).expect("mkdir");
        }
        std::fs::write(deepest.join("f"), "text").expect("write");
        let copied = target.join(vec!["d"; depth].join("/")).join("f");
        // A stack on which a few levels fit, if each took some of it.
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        let copy = thread.spawn(move || copy_tree(&source, &target)).expect("a thread");
        copy.join().expect("no panic").expect("copied");
        assert_eq!(std::fs::read_to_string(copied).expect("is there"), "text");
    }
}
