//! Copies a file of a lower layer, because a layer has another name for it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use buildkit_util_overlay::Stack;
use buildkit_util_system::{CreateFile, Root};
use rustix::fs::{FileType, Mode, OFlags};

use crate::Error;
use crate::changes::file_type;
use crate::parents::{copy_metadata, fail};

/// Where the lower layers have a file that the layer at `upper` does not hide.
pub(crate) fn find(upper: &Path, lower: &Stack, path: &Path) -> Result<Option<PathBuf>, Error> {
    let layers = std::iter::once(upper).chain(lower.layers().iter().map(PathBuf::as_path));
    let stack = Stack::new(layers.map(Path::to_owned).collect());
    let node = stack.and_then(|stack| stack.lookup(path)).map_err(|error| Error::io("find", path, error))?;
    Ok(node.filter(|node| node.dir.is_none()).map(|node| node.path))
}

/// Makes `name` in a directory a copy of a file.
pub(crate) fn copy(source: &Path, dir: &Root, name: &OsStr, path: &Path) -> Result<(), Error> {
    let io = |error: rustix::io::Errno| Error::io("copy", path, error);
    let stat = rustix::fs::lstat(source).map_err(io)?;
    match file_type(&stat) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let from = rustix::fs::open(source, flags, Mode::empty()).map_err(io)?;
            let mut to =
                dir.create_file(name, 0o600, CreateFile::New).map_err(|error| fail("copy", path, error))?;
            if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
                // The standard library lets the kernel copy.
                std::io::copy(&mut File::from(from), &mut to)
                    .map_err(|error| Error::io("copy", path, error))?;
            }
        }
        FileType::Symlink => {
            let target = rustix::fs::readlink(source, Vec::new()).map_err(io)?;
            rustix::fs::symlinkat(&target, dir, name).map_err(io)?;
        }
        kind => rustix::fs::mknodat(dir, name, kind, Mode::empty(), stat.st_rdev).map_err(io)?,
    }
    let handle = dir.resolve_no_follow(name).map_err(|error| fail("copy", path, error))?;
    if let Some((atime, mtime)) = copy_metadata(source, &handle, path)? {
        handle.set_times(Some(atime), Some(mtime)).map_err(|error| fail("copy", path, error))?;
    }
    Ok(())
}
