use std::path::Path;
use std::sync::Arc;

use buildkit_solver_pb::FileActionCopy;
use buildkit_util_fsutil_copy::{self as fsutil, CopyOptions, ModeChange, SharedFiles, resolve_wildcards};
use buildkit_util_system::{Root, path};

use crate::actions::{chown_fn, timestamp};
use crate::archive::{sniff, unpack};
use crate::{Error, Owner, Result};

/// Cleans a path and keeps what its end says: a slash wants a directory, `/.` its content.
pub(crate) fn clean_path(path: &str) -> String {
    let mut clean = path::join(["/", path]);
    if path.ends_with("/.") {
        if clean != "/" {
            clean.push('/');
        }
        clean.push('.');
    } else if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

/// Copies files from one tree to another, or unpacks archives of the one into the other.
///
/// # Errors
/// When what is to be copied does not exist, or the system refuses.
pub fn copy(source: &Root, dest: &Root, action: &FileActionCopy, owner: Option<Owner>) -> Result<()> {
    copy_or_link(source, dest, action, owner, None)
}

/// As [`copy()`]; with `share`, files that would not differ from their sources are linked.
///
/// # Errors
/// As [`copy()`].
pub fn copy_or_link(
    source: &Root,
    dest: &Root,
    action: &FileActionCopy,
    owner: Option<Owner>,
    share: Option<&Arc<SharedFiles>>,
) -> Result<()> {
    let (from, to) = (clean_path(&action.src), clean_path(&action.dest));
    if !action.create_dest_path {
        check_destination(dest, action)?;
    }
    let mode_change = match action.mode_str.as_str() {
        "" => None,
        text => Some(text.parse::<ModeChange>().map_err(|_| Error::Invalid("invalid syntax".to_owned()))?),
    };
    let options = CopyOptions {
        allow_wildcards: false,
        follow_links: action.follow_symlink,
        copy_dir_contents: action.dir_copy_contents,
        include: action.include_patterns.clone(),
        exclude: action.exclude_patterns.clone(),
        mode: match (action.mode, &mode_change) {
            (-1, _) | (_, Some(_)) => None,
            (mode, None) => Some(mode as u32 & 0o7777),
        },
        mode_change,
        chown: chown_fn(owner),
        time: timestamp(action.timestamp),
        always_replace: action.always_replace_existing_dest_paths,
        ignore_xattr_errors: true,
        share: share.cloned(),
    };
    let sources = if action.allow_wildcard {
        let found = match resolve_wildcards(source, &from, action.follow_symlink) {
            Err(error) if error.is_not_found() => Vec::new(),
            found => found?,
        };
        if found.is_empty() {
            if action.allow_empty_wildcard {
                return Ok(());
            }
            return Err(Error::NotFound(format!("{from} not found")));
        }
        found
    } else {
        vec![Path::new(&from).to_owned()]
    };
    for path in sources {
        if action.attempt_unpack_docker_compatibility
            && let Some((file, compression)) = sniff(source, &path)?
        {
            unpack(file, compression, dest, Path::new(&to), owner, options.time)?;
            continue;
        }
        fsutil::copy(source, &path, dest, &to, &options)?;
    }
    Ok(())
}

fn check_destination(dest: &Root, action: &FileActionCopy) -> Result<()> {
    let wanted = path::join(["/", &action.dest]);
    let check = || {
        let found = dest.real_path(&wanted).map_err(Error::at("lstat", &wanted))?;
        let around = found.parent().unwrap_or(Path::new("/"));
        dest.lstat(around).map_err(Error::at("lstat", around))
    };
    check()
        .map(drop)
        .map_err(|error| Error::Destination { dest: action.dest.clone(), cause: Box::new(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_counts() {
        for (path, expected) in [
            ("", "/"),
            (".", "/"),
            ("/", "/"),
            ("/.", "/."),
            ("a", "/a"),
            ("a/", "/a/"),
            ("a/.", "/a/."),
            ("a/../b/", "/b/"),
            ("../..", "/"),
        ] {
            assert_eq!(clean_path(path), expected, "{path}");
        }
    }
}
