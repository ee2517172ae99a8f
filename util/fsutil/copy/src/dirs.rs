use std::path::{Path, PathBuf};

use buildkit_util_system::{Root, Timestamp};

use crate::{ChownFn, Error};

/// Makes a directory and all that are missing above it, with these permissions (`0777`), owner and
/// time, following links inside the root. Returns those that were made, outermost first. Each has its time when it is
/// made, so only the innermost keeps it: the others change when the next one is put into them, as they do in layers
/// of the original.
///
/// # Errors
/// When something else is in the way, or the system refuses.
pub fn make_dirs(
    root: &Root,
    path: impl AsRef<Path>,
    mode: u32,
    chown: Option<&ChownFn>,
    time: Option<Timestamp>,
) -> Result<Vec<PathBuf>, Error> {
    let owner = chown.and_then(|chown| chown(None)).map(|owner| (owner.uid, owner.gid));
    let made = root.mkdir_all(path, mode & 0o777, owner)?;
    set_times(root, made.last().map_or(&[], std::slice::from_ref), time)?;
    Ok(made)
}

pub(crate) fn set_times(root: &Root, dirs: &[PathBuf], time: Option<Timestamp>) -> Result<(), Error> {
    if time.is_some() {
        for dir in dirs.iter().rev() {
            root.resolve_no_follow(dir)?.set_times(time, time)?;
        }
    }
    Ok(())
}
