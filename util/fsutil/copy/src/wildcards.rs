use std::path::{Path, PathBuf};

use buildkit_util_patternmatcher::{glob_match, has_wildcards};
use buildkit_util_system::path::clean;
use buildkit_util_system::{FileKind, Root};

use crate::Error;

/// The paths that match a path with wildcards, in lexical order, relative to the root. Directories
/// that match are not searched for more. Without wildcards it is the path itself, which need not
/// exist. Links before the first wildcard are followed inside the root, the last of them only with
/// `follow_links`; links after it are not.
///
/// # Errors
/// When the directory to search does not exist or cannot be read.
pub fn resolve_wildcards(root: &Root, path: &str, follow_links: bool) -> Result<Vec<PathBuf>, Error> {
    let cleaned = clean(path);
    let parts: Vec<&str> = cleaned.split('/').filter(|part| !part.is_empty()).collect();
    let Some(first) = parts.iter().position(|part| has_wildcards(part)) else {
        return Ok(vec![PathBuf::from(cleaned)]);
    };
    let base: PathBuf = Path::new("/").join(parts[..first].iter().collect::<PathBuf>());
    let base = if follow_links {
        root.real_path(&base)?
    } else {
        match (base.parent(), base.file_name()) {
            (Some(parent), Some(name)) => root.real_path(parent)?.join(name),
            _ => base,
        }
    };
    let pattern = parts[first..].join("/");
    // A class can match a slash, as in Go; then only the whole path can tell.
    let by_part = !pattern.contains('[');
    let mut found = Vec::new();
    if !root.lstat(&base)?.is_dir() {
        return Ok(found);
    }
    // Directories to read, last first: path below the base, and its depth.
    let mut todo = vec![(String::new(), 0, None)];
    while let Some((relative, depth, kind)) = todo.pop() {
        if depth > 0 && glob_match(&pattern, &relative).unwrap_or(false) {
            let path = base.join(&relative);
            found.push(path.strip_prefix("/").unwrap_or(&path).to_owned());
            continue;
        }
        if depth > 0 && kind != Some(FileKind::Directory) {
            continue;
        }
        let parts_left = parts.len() - first;
        if by_part && depth >= parts_left {
            continue;
        }
        if by_part
            && depth > 0
            && !glob_match(parts[first + depth - 1], relative.rsplit('/').next().unwrap_or(""))
                .unwrap_or(false)
        {
            continue;
        }
        let entries = match root.read_dir(base.join(&relative)) {
            Err(error) if error.is_not_found() => continue,
            other => other?,
        };
        for entry in entries.into_iter().rev() {
            // A name that is not text matches no pattern.
            let Some(name) = entry.name.to_str() else { continue };
            let path = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
            todo.push((path, depth + 1, Some(entry.kind)));
        }
    }
    Ok(found)
}
