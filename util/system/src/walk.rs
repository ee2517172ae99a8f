//! Lookup component by component, for paths of which a part does not exist yet.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, fchmod, mkdirat, openat};
use rustix::io::Errno;

use crate::{Error, FileKind, Handle};

/// The kernel's limit of links in one lookup.
const MAX_LINKS: usize = 40;
/// What a lookup makes of components that do not exist.
pub(crate) enum Missing {
    /// Directories.
    Make { mode: u32, owner: Option<(u32, u32)> },
    /// Nothing: they are part of the path that is found.
    Keep,
}

pub(crate) struct Found {
    /// Absolute inside the root, without links.
    pub path: PathBuf,
    /// Directories that were made.
    pub created: Vec<PathBuf>,
}

/// The normal components of a path after cleaning as text; `..` ends at the root.
pub(crate) fn components(path: &Path) -> Vec<OsString> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts
}

/// Follows `path` from `root`. `..` in a link leads to the directory that the walk came from, so
/// renames of directories meanwhile cannot lead it out of the root.
pub(crate) fn walk(root: BorrowedFd<'_>, path: &Path, missing: &Missing) -> Result<Found, Error> {
    let action = match missing {
        Missing::Make { .. } => "create the directory",
        Missing::Keep => "find",
    };
    let fail = |e: Errno| Error::io(action, path, e);
    let mut todo: VecDeque<OsString> = components(path).into();
    let mut dirs: Vec<(OsString, Option<OwnedFd>)> = Vec::new();
    let mut created = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            dirs.pop();
            continue;
        }
        let current = match dirs.last() {
            None => Some(root),
            Some((_, fd)) => fd.as_ref().map(AsFd::as_fd),
        };
        // Below something that does not exist nothing exists.
        let Some(current) = current else {
            dirs.push((name, None));
            continue;
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(current, &*name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => match missing {
                Missing::Keep => {
                    dirs.push((name, None));
                    continue;
                }
                Missing::Make { mode, owner } => match make_dir(current, &name, *mode, *owner, path) {
                    Ok(fd) => {
                        created.push(joined(&dirs).join(&name));
                        fd
                    }
                    // Somebody else made it: look again.
                    Err(e) if e.errno() == Some(Errno::EXIST.raw_os_error()) => {
                        openat(current, &*name, flags, Mode::empty()).map_err(fail)?
                    }
                    Err(e) => return Err(e),
                },
            },
            Err(e) => return Err(fail(e)),
        };
        let handle = Handle::new(fd, path);
        match handle.stat()?.kind {
            FileKind::Directory => dirs.push((name, Some(handle.into_fd()))),
            FileKind::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(fail(Errno::LOOP));
                }
                let target = handle.readlink()?;
                let target = Path::new(&target);
                if target.is_absolute() {
                    dirs.clear();
                }
                let parts = target.components().filter_map(|component| match component {
                    Component::Normal(name) => Some(name.to_owned()),
                    Component::ParentDir => Some(OsString::from("..")),
                    _ => None,
                });
                for (position, part) in parts.enumerate() {
                    todo.insert(position, part);
                }
            }
            _ if todo.is_empty() && matches!(missing, Missing::Keep) => dirs.push((name, None)),
            _ => return Err(fail(Errno::NOTDIR)),
        }
    }
    Ok(Found { path: joined(&dirs), created })
}

fn joined(dirs: &[(OsString, Option<OwnedFd>)]) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(dirs.iter().map(|(name, _)| name));
    path
}

/// Makes a directory with exactly this mode and owner, and returns it.
pub(crate) fn make_dir(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    mode: u32,
    owner: Option<(u32, u32)>,
    path: &Path,
) -> Result<OwnedFd, Error> {
    let fail = |e: Errno| Error::io("create the directory", path, e);
    mkdirat(parent, name.as_bytes(), Mode::from_raw_mode(0o700)).map_err(fail)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(parent, name.as_bytes(), flags, Mode::empty()).map_err(fail)?;
    if let Some((uid, gid)) = owner {
        // Before the mode, because a change of owner clears setuid and setgid.
        chownat(&fd, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
            .map_err(fail)?;
    }
    fchmod(&fd, Mode::from_raw_mode(mode & 0o7777)).map_err(fail)?;
    Ok(fd)
}
