use std::collections::BTreeSet;

use buildkit_util_patternmatcher::{glob_match, has_wildcards};
use buildkit_util_system::path::{clean, join};

use crate::confine::split;
use crate::{Entry, Error, FileSystem, mode};

/// Links that one path may lead through. The targets of links are followed once each, so only
/// hostile trees come near.
const MAX_STEPS: usize = 100_000;

/// The paths that must be sent so that `paths` can be read: themselves and, for every symbolic link
/// on the way, the link and what it leads to. The last component of each may have wildcards. Links
/// are resolved inside the tree. `None` when the root itself is among them, so that everything is.
///
/// # Errors
/// When the tree cannot be read.
pub fn follow_links(fs: &dyn FileSystem, paths: &[String]) -> Result<Option<Vec<String>>, Error> {
    let mut resolver = Resolver { fs, resolved: BTreeSet::new(), steps: 0 };
    for path in paths {
        resolver.add(path)?;
    }
    Ok(dedupe_paths(resolver.resolved.into_iter().collect()))
}

/// Drops paths below others of the sorted list; `None` when one of them is the root.
pub(crate) fn dedupe_paths(paths: Vec<String>) -> Option<Vec<String>> {
    let mut kept: Vec<String> = Vec::with_capacity(paths.len());
    for path in paths {
        if path == "." {
            return None;
        }
        let last = kept.last().map_or("", String::as_str);
        if !path.strip_prefix(last).is_some_and(|rest| rest.starts_with('/')) {
            kept.push(path);
        }
    }
    Some(kept)
}

struct Resolver<'a> {
    fs: &'a dyn FileSystem,
    resolved: BTreeSet<String>,
    steps: usize,
}

impl Resolver<'_> {
    fn add(&mut self, path: &str) -> Result<(), Error> {
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            let relative = clean(&format!("./{path}"));
            if relative == ".." || relative.starts_with("../") {
                // Nothing in the tree; as a pattern it matches nothing.
                self.resolved.insert(relative);
                continue;
            }
            let mut rest = if relative == "." { "" } else { relative.as_str() };
            let mut current = ".".to_owned();
            loop {
                self.steps += 1;
                if self.steps > MAX_STEPS {
                    return Err(Error::Protocol("too many symbolic links in followpaths".to_owned()));
                }
                let (first, after) = rest.split_once('/').unwrap_or((rest, ""));
                current = join([&current, first]);
                let targets = self.link_targets(&current, true)?;
                if (after.is_empty() || targets.is_some()) && self.resolved.contains(&current) {
                    break;
                }
                if let Some(targets) = targets {
                    self.resolved.insert(current);
                    // In the order of the targets, as a stack gives them back.
                    todo.extend(targets.iter().rev().map(|target| join([target, after])));
                    break;
                }
                if after.is_empty() {
                    self.resolved.insert(current);
                    break;
                }
                rest = after;
            }
        }
        Ok(())
    }

    /// Where a path leads if it is a symbolic link, or where all matches of its wildcards do.
    fn link_targets(&self, path: &str, wildcards: bool) -> Result<Option<Vec<String>>, Error> {
        let (dir, name) = split(path);
        if wildcards && has_wildcards(name) {
            let mut targets = Vec::new();
            let mut walk = self.fs.walk(dir)?;
            let mut in_dir = dir.is_empty();
            loop {
                match walk.next() {
                    Ok(None) => break,
                    Ok(Some(entry)) if !in_dir && entry.path == dir => {
                        if !entry.is_dir() {
                            return Ok(None);
                        }
                        in_dir = true;
                    }
                    Ok(Some(entry)) => {
                        if entry.is_dir() {
                            walk.skip_dir();
                        }
                        if glob_match(name, split(&entry.path).1).unwrap_or(false)
                            && let Some(target) = target_of(&entry, || walk.stat())?
                        {
                            targets.push(target);
                        }
                    }
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            // A directory that is not there has no links; one that is there has this list of them.
            return Ok(in_dir.then_some(targets));
        }
        if path == "." {
            return Ok(None);
        }
        let mut walk = self.fs.walk(path)?;
        match walk.next() {
            Ok(Some(entry)) if entry.path == path => {
                Ok(target_of(&entry, || walk.stat())?.map(|target| vec![target]))
            }
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn target_of(
    entry: &Entry,
    stat: impl FnOnce() -> Result<buildkit_util_fsutil_types::Stat, Error>,
) -> Result<Option<String>, Error> {
    if !mode::is_symlink(entry.kind) {
        return Ok(None);
    }
    let stat = match stat() {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let link = clean(&stat.linkname);
    Ok(Some(if link.starts_with('/') { link } else { clean(&format!("/{}/{link}", split(&entry.path).0)) }))
}
