use std::ops::Bound;

use buildkit_util_cachedigest::Digest;
use buildkit_util_gotext::quoted_bytes;
use buildkit_util_patternmatcher::{MatchInfo, PatternMatcher, glob_match};
use buildkit_util_system::Root;

use crate::record::{Kind, text, to_hash};
use crate::{Error, Result, Tree, key, scan};

/// Which part of a tree counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChecksumOptions {
    /// Follow a symbolic link at the end of the path.
    pub follow_links: bool,
    /// The path is a pattern.
    pub wildcard: bool,
    /// Only what matches one of these, relative to the path, when there are any.
    pub include: Vec<String>,
    /// Not what matches one of these.
    pub exclude: Vec<String>,
    /// Paths that must be among what counts.
    pub required: Vec<String>,
}

/// A record that a selection found.
struct Found {
    /// Its path as the caller would name it.
    path: Vec<u8>,
    key: Vec<u8>,
    kind: Kind,
    included: bool,
    include_info: MatchInfo,
    exclude_info: MatchInfo,
    follow: bool,
}

impl Tree {
    /// The digest of a path's content. `root` is the tree's directory, whose files are looked at when
    /// something is not known; without it that is [`Error::NeedsFiles`].
    ///
    /// # Errors
    /// [`Error::NotFound`] for a path that is not there, in upstream's words; see there for others.
    pub fn checksum(&mut self, root: Option<&Root>, path: &str, options: &ChecksumOptions) -> Result<Digest> {
        if !options.wildcard && options.include.is_empty() && options.exclude.is_empty() {
            return self.checksum_path(root, path.as_bytes(), options.follow_links);
        }
        let (prefix, found) = self.select(root, path, options)?;
        let keys: Vec<Vec<u8>> = found.iter().map(|found| found.key.clone()).collect();
        let mut hashes = self.hash(root, &keys)?;
        for (found, hash) in found.iter().zip(&mut hashes) {
            if found.follow && found.kind == Kind::Symlink {
                let digest = self.checksum_path(root, &found.path, options.follow_links)?;
                *hash = to_hash(&digest).ok_or(Error::Damaged)?;
            }
        }
        if let ([only], [hash]) = (&found[..], &hashes[..])
            && key::base(path.as_bytes()) == key::base(&only.path)
        {
            return Ok(Digest::from_sha256(*hash));
        }
        let mut digester = buildkit_util_cachedigest::Digester::new();
        for (found, hash) in found.iter().zip(&hashes) {
            let name = found.path.strip_prefix(&prefix[..]).unwrap_or(&found.path);
            let name = key::of_path(name);
            digester.update(if name.is_empty() { &[0][..] } else { &name });
            digester.update(text(hash));
        }
        Ok(digester.finish())
    }

    /// What counts, in order, and the part of the path that is no pattern.
    fn select(
        &mut self,
        root: Option<&Root>,
        path: &str,
        options: &ChecksumOptions,
    ) -> Result<(Vec<u8>, Vec<Found>)> {
        let include = matcher("includepatterns", &options.include)?;
        let exclude = matcher("excludepatterns", &options.exclude)?;
        if self.needs_scan(b"", false)? {
            scan::scan(self, root.ok_or(Error::NeedsFiles)?, b"", false)?;
        }
        let content_only = path.ends_with('/');
        let path = key::clean(path.as_bytes());
        let pattern = String::from_utf8_lossy(&path).into_owned();

        // Symbolic links in the part before any wildcard are followed; paths are still matched as
        // the caller names them.
        let (prefix, start) = if options.wildcard {
            let (fixed, has_rest) = split_wildcards(&path);
            if fixed.is_empty() {
                (Vec::new(), Some(Vec::new()))
            } else {
                let (key, record) = self.follow(&key::of_path(&fixed), has_rest)?;
                (fixed, record.is_some().then_some(key))
            }
        } else {
            let (key, record) = self.follow(&key::of_path(&path), false)?;
            (path.clone(), record.is_some().then_some(key))
        };
        let mut found: Vec<Found> = Vec::new();
        let required = |found: &[Found]| {
            for required in &options.required {
                if !found.iter().any(|found| found.path.starts_with(required.as_bytes())) {
                    return Err(Error::NotFound(quoted_bytes(required.as_bytes())));
                }
            }
            Ok(())
        };
        let Some(start) = start else {
            required(&found)?;
            return Ok((prefix, found));
        };

        let resolved = key::to_path(&start);
        // The record itself, then what is in it and behind.
        let first = self.records.get_key_value(&start).into_iter();
        let rest =
            self.records.range::<Vec<u8>, _>((Bound::Included(&key::header(&start)), Bound::Unbounded));
        // Headers of the directories around, outermost first.
        let mut around: Vec<Found> = Vec::new();
        let mut matched: Vec<u8> = Vec::new();
        for (at, record) in first.chain(rest) {
            let mut name = key::to_path(at);
            if let Some(rest) = name.strip_prefix(&resolved[..]) {
                name = [&prefix[..], rest].concat();
            } else if options.wildcard && !prefix.is_empty() {
                // Nothing behind the fixed part can match.
                break;
            }
            while around.last().is_some_and(|last| !is_in(&name, &last.path)) {
                around.pop();
            }
            let is_header = record.kind == Kind::Header;
            if is_header {
                name.pop();
                if name == path && content_only {
                    continue;
                }
            }
            let relative = if options.wildcard {
                if !path.is_empty() && (matched.is_empty() || !is_in(&name, &matched)) {
                    let text = String::from_utf8_lossy(&name);
                    let hit = glob_match(&pattern, &text)
                        .map_err(|_| Error::Pattern("syntax error in pattern".to_owned()))?;
                    if !hit {
                        continue;
                    }
                    matched.clone_from(&name);
                }
                relative(&name, &matched)
            } else {
                if name != path && !is_in(&name, &path) {
                    break;
                }
                relative(&name, &path)
            };
            let mut entry = Found {
                path: name,
                key: at.clone(),
                kind: record.kind,
                included: false,
                include_info: MatchInfo::default(),
                exclude_info: MatchInfo::default(),
                follow: around.is_empty() && options.follow_links,
            };
            let wanted = wanted(&relative, include.as_ref(), exclude.as_ref(), &mut entry, around.last())?;
            // The content of a directory is counted entry by entry: parts of it may be left out.
            if wanted && record.kind != Kind::Dir {
                for parent in &mut around {
                    if !std::mem::replace(&mut parent.included, true) {
                        found.push(parent.listed());
                    }
                }
                entry.included = true;
                found.push(entry.listed());
            }
            if is_header {
                around.push(entry);
            }
        }
        required(&found)?;
        Ok((prefix, found))
    }
}

impl Found {
    fn listed(&self) -> Self {
        Self {
            path: self.path.clone(),
            key: self.key.clone(),
            kind: self.kind,
            included: true,
            include_info: MatchInfo::default(),
            exclude_info: MatchInfo::default(),
            follow: self.follow,
        }
    }
}

fn is_in(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// `path` from `dir` on, without slashes around it; the whole path if it is not in it.
fn relative(path: &[u8], dir: &[u8]) -> String {
    let with_slash = [path, b"/"].concat();
    let rest = with_slash.strip_prefix(&[dir, b"/"].concat()[..]).unwrap_or(&with_slash);
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    String::from_utf8_lossy(rest).into_owned()
}

fn matcher(what: &str, patterns: &[String]) -> Result<Option<PatternMatcher>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    PatternMatcher::new(patterns)
        .map(Some)
        .map_err(|error| Error::Pattern(format!("invalid {what}: [{}]: {error}", patterns.join(" "))))
}

fn wanted(
    relative: &str,
    include: Option<&PatternMatcher>,
    exclude: Option<&PatternMatcher>,
    entry: &mut Found,
    parent: Option<&Found>,
) -> Result<bool> {
    let top = MatchInfo::default();
    let fail = |what: &'static str| move |error| Error::Pattern(format!("failed to match {what}: {error}"));
    if let Some(include) = include {
        let parent = parent.map_or(&top, |parent| &parent.include_info);
        let hit = include
            .matches_using_parent_results(relative, parent, Some(&mut entry.include_info))
            .map_err(fail("includepatterns"))?;
        if !hit {
            return Ok(false);
        }
    }
    if let Some(exclude) = exclude {
        let parent = parent.map_or(&top, |parent| &parent.exclude_info);
        let hit = exclude
            .matches_using_parent_results(relative, parent, Some(&mut entry.exclude_info))
            .map_err(fail("excludepatterns"))?;
        if hit {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The components before the first with a wildcard, and whether there are others.
fn split_wildcards(path: &[u8]) -> (Vec<u8>, bool) {
    let mut fixed = Vec::new();
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        if has_wildcard(part) {
            return (fixed, true);
        }
        fixed.push(b'/');
        fixed.extend_from_slice(part);
    }
    (fixed, false)
}

fn has_wildcard(part: &[u8]) -> bool {
    let mut bytes = part.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}
