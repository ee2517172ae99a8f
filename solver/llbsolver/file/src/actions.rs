use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use buildkit_solver_pb::{FileActionMkDir, FileActionMkFile, FileActionRm, FileActionSymlink};
use buildkit_util_fsutil_copy::{ChownFn, make_dirs, resolve_wildcards};
use buildkit_util_system::{CreateFile, Root, Timestamp, path};

use crate::copy::clean_path;
use crate::{Error, Owner, Result};

/// The time that an action asks for, in nanoseconds since 1970; -1 is none.
pub(crate) fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    const SECOND: i64 = 1_000_000_000;
    (nanoseconds != -1).then(|| Timestamp {
        seconds: nanoseconds.div_euclid(SECOND),
        // Below a second.
        nanoseconds: nanoseconds.rem_euclid(SECOND) as u32,
    })
}

pub(crate) fn chown_fn(owner: Option<Owner>) -> Option<ChownFn> {
    owner.map(|owner| -> ChownFn { Arc::new(move |_| Some(owner)) })
}

/// Sets owner and time of something that was made; a symbolic link is not followed.
pub(crate) fn finish(root: &Root, path: &Path, owner: Option<Owner>, time: Option<Timestamp>) -> Result<()> {
    if owner.is_none() && time.is_none() {
        return Ok(());
    }
    let handle = root.resolve_no_follow(path).map_err(Error::at("lstat", path))?;
    if let Some(owner) = owner {
        handle.chown(owner.uid, owner.gid).map_err(Error::at("lchown", path))?;
    }
    if let Some(time) = time {
        handle.set_times(Some(time), Some(time)).map_err(Error::at("utimes", path))?;
    }
    Ok(())
}

fn real_path(root: &Root, path: &str) -> Result<std::path::PathBuf> {
    let path = path::join(["/", path]);
    root.real_path(&path).map_err(Error::at("lstat", &path))
}

/// Makes a directory. One that exists is left as it is.
///
/// # Errors
/// When the system refuses.
pub fn mkdir(root: &Root, action: &FileActionMkDir, owner: Option<Owner>) -> Result<()> {
    let path = real_path(root, &action.path)?;
    // Go's modes have the set-id and sticky bits elsewhere; only permissions are taken.
    let mode = action.mode as u32 & 0o777;
    let time = timestamp(action.timestamp);
    if action.make_parents {
        let chown = chown_fn(owner);
        make_dirs(root, &path, mode, chown.as_ref(), time)?;
        return Ok(());
    }
    if path.components().all(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Ok(());
    }
    match root.mkdir(&path, mode, owner.map(|owner| (owner.uid, owner.gid))) {
        Ok(()) => finish(root, &path, None, time),
        Err(error) if error.io_kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::at("mkdir", &path)(error)),
    }
}

/// Makes a file, or writes over one that exists, which keeps its permissions.
///
/// # Errors
/// When the system refuses.
pub fn mkfile(root: &Root, action: &FileActionMkFile, owner: Option<Owner>) -> Result<()> {
    let path = real_path(root, &action.path)?;
    let mode = action.mode as u32 & 0o777;
    let mut file = root.create_file(&path, mode, CreateFile::Truncate).map_err(|error| {
        if root.stat(&path).is_ok_and(|stat| stat.is_dir()) {
            return Error::io("open", &path)(ErrorKind::IsADirectory.into());
        }
        Error::at("open", &path)(error)
    })?;
    file.write_all(&action.data).map_err(Error::io("write", &path))?;
    drop(file);
    finish(root, &path, owner, timestamp(action.timestamp))
}

/// Makes a symbolic link.
///
/// # Errors
/// When something is at its path, or the system refuses.
pub fn symlink(root: &Root, action: &FileActionSymlink, owner: Option<Owner>) -> Result<()> {
    let path = real_path(root, &action.newpath)?;
    root.symlink(&action.oldpath, &path).map_err(Error::at("symlink", &path))?;
    finish(root, &path, owner, timestamp(action.timestamp))
}

/// Removes what is at a path, or what matches it, and all below. The root cannot be removed.
///
/// # Errors
/// When nothing is there and that is not allowed, or the system refuses.
pub fn rm(root: &Root, action: &FileActionRm) -> Result<()> {
    if !action.allow_wildcard {
        return rm_path(root, Path::new(&action.path), action.allow_not_found);
    }
    let found = match resolve_wildcards(root, &clean_path(&action.path), false) {
        Err(error) if error.is_not_found() && action.allow_not_found => return Ok(()),
        found => found?,
    };
    for path in found {
        rm_path(root, &path, action.allow_not_found)?;
    }
    Ok(())
}

fn rm_path(root: &Root, path: &Path, allow_not_found: bool) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    // Components are bytes; `..` only ever shortens what stands before it.
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let Some(name) = parts.pop() else {
        return Err(Error::Invalid("rmPath: invalid empty path".to_owned()));
    };
    let directory = parts
        .iter()
        .fold(std::path::PathBuf::from("/"), |path, part| path.join(std::ffi::OsStr::from_bytes(part)));
    let path = root
        .real_path(&directory)
        .map_err(Error::at("lstat", &directory))?
        .join(std::ffi::OsStr::from_bytes(name));
    if !allow_not_found {
        root.lstat(&path).map_err(Error::at("stat", &path))?;
    }
    root.remove_all(&path).map_err(Error::at("unlinkat", &path))
}
