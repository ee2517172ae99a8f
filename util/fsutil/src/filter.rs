use std::io::Read;
use std::sync::Arc;

use buildkit_util_fsutil_types::Stat;
use buildkit_util_patternmatcher::{MatchInfo, PatternMatcher};

use crate::followlinks::dedupe_paths;
use crate::{Entry, Error, FileSystem, Walk, follow_links, mode};

/// What becomes of an entry that passed the patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapResult {
    /// It is kept.
    Keep,
    /// It is left out; what is in it is not.
    Exclude,
    /// It is left out with everything in it.
    SkipDir,
}

/// Changes the attributes of an entry and decides whether it is kept.
pub type MapFn = Arc<dyn Fn(&str, &mut Stat) -> MapResult + Send + Sync>;

/// Which part of a tree is wanted.
#[derive(Clone, Default)]
pub struct FilterOptions {
    /// Entries must match one of these; empty for all.
    pub include: Vec<String>,
    /// Entries must match none of these.
    pub exclude: Vec<String>,
    /// Paths, perhaps with wildcards, that are included together with everything that symbolic links
    /// on the way lead to; `None` for no such rule.
    pub follow_paths: Option<Vec<String>>,
    /// Applied to what is left.
    pub map: Option<MapFn>,
}

/// Part of another tree.
///
/// Directories that do not match themselves are shown when something in them does.
pub struct FilterFs {
    inner: Arc<dyn FileSystem>,
    include: Option<PatternMatcher>,
    exclude: Option<PatternMatcher>,
    /// Whether a directory outside of all included ones need not be entered.
    prefix_includes: bool,
    /// Whether an excluded directory without exceptions in it need not be entered.
    prefix_exceptions: bool,
    map: Option<MapFn>,
}

impl FilterFs {
    /// Filters a tree. Links are followed now: later changes of them are not seen.
    ///
    /// # Errors
    /// [`Error::Patterns`] for malformed patterns; others when links cannot be read.
    pub fn new(inner: Arc<dyn FileSystem>, options: &FilterOptions) -> Result<Self, Error> {
        let mut include = options.include.clone();
        if let Some(paths) = &options.follow_paths
            && let Some(targets) = follow_links(inner.as_ref(), paths)?
        {
            include.extend(targets);
            include = dedupe_paths(include).unwrap_or_default();
        }
        let matcher = |patterns: &[String], what: &str| {
            if patterns.is_empty() {
                return Ok(None);
            }
            PatternMatcher::new(patterns).map(Some).map_err(|source| {
                Error::Patterns(format!("invalid {what}: [{}]", patterns.join(" ")), source)
            })
        };
        let include = matcher(&include, "includepatterns")?;
        let exclude = matcher(&options.exclude, "excludepatterns")?;
        let plain = |matcher: &Option<PatternMatcher>, exclusions: bool| {
            matcher.iter().flat_map(|matcher| matcher.patterns()).all(|pattern| {
                pattern.is_exclusion() != exclusions
                    || !pattern.without_trailing_glob().contains(['*', '[', ']', '?', '^', '\\'])
            })
        };
        Ok(Self {
            prefix_includes: plain(&include, false),
            prefix_exceptions: plain(&exclude, true),
            inner,
            include,
            exclude,
            map: options.map.clone(),
        })
    }

    /// Whether something below `path` may match a pattern of the kind (exclusions or not).
    fn may_match_below(matcher: &PatternMatcher, path: &str, exclusions: bool) -> bool {
        matcher.patterns().iter().filter(|p| p.is_exclusion() == exclusions).any(|pattern| {
            let prefix = pattern.without_trailing_glob();
            prefix.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl FileSystem for FilterFs {
    fn walk(&self, target: &str) -> Result<Box<dyn Walk + '_>, Error> {
        Ok(Box::new(FilterWalk {
            fs: self,
            inner: self.inner.walk(target)?,
            parents: Vec::new(),
            pending: Vec::new(),
            current: None,
            last: String::new(),
            skipped: None,
        }))
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        self.inner.open(path)
    }
}

struct Parent {
    /// Attributes until the directory is shown.
    stat: Option<Stat>,
    path: String,
    include: MatchInfo,
    exclude: MatchInfo,
    skip: bool,
}

struct FilterWalk<'a> {
    fs: &'a FilterFs,
    inner: Box<dyn Walk + 'a>,
    /// Directories around the current entry of the inner walk.
    parents: Vec<Parent>,
    /// Entries to show before the inner walk goes on, last first.
    pending: Vec<Stat>,
    current: Option<Stat>,
    /// Path of the entry shown last.
    last: String,
    /// A directory that does not match; that it cannot be read does not matter.
    skipped: Option<String>,
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

impl FilterWalk<'_> {
    /// Decides on an entry of the inner walk: its attributes if it is to be shown.
    fn decide(&mut self, entry: &Entry) -> Result<Option<Stat>, Error> {
        let fs = self.fs;
        let path = entry.path.as_str();
        let filtering = fs.include.is_some() || fs.exclude.is_some();
        while self.parents.last().is_some_and(|parent| !is_below(path, &parent.path)) {
            self.parents.pop();
        }
        if self.parents.iter().any(|parent| parent.skip) {
            self.inner.skip_dir();
            return Ok(None);
        }
        let top = MatchInfo::default();
        let is_dir = entry.is_dir();
        let (mut include, mut exclude) = (MatchInfo::default(), MatchInfo::default());
        let mut skip = false;
        let pattern_error = |what: &str| {
            let what = format!("failed to match {what}");
            move |source| Error::Patterns(what, source)
        };
        if let Some(matcher) = &fs.include {
            let parent = self.parents.last().map_or(&top, |parent| &parent.include);
            let matched = matcher
                .matches_using_parent_results(path, parent, is_dir.then_some(&mut include))
                .map_err(pattern_error("includepatterns"))?;
            if !matched {
                if is_dir && fs.prefix_includes && !FilterFs::may_match_below(matcher, path, false) {
                    self.inner.skip_dir();
                    return Ok(None);
                }
                skip = true;
            }
        }
        if let Some(matcher) = &fs.exclude {
            let parent = self.parents.last().map_or(&top, |parent| &parent.exclude);
            let matched = matcher
                .matches_using_parent_results(path, parent, is_dir.then_some(&mut exclude))
                .map_err(pattern_error("excludepatterns"))?;
            if matched {
                if is_dir && fs.prefix_exceptions && !FilterFs::may_match_below(matcher, path, true) {
                    self.inner.skip_dir();
                    return Ok(None);
                }
                skip = true;
            }
        }
        let mut shown = None;
        let mut late = None;
        if skip {
            if is_dir {
                self.skipped = Some(path.to_owned());
                late = Some(self.inner.stat()?);
            }
        } else {
            let mut stat = self.inner.stat()?;
            match fs.map.as_ref().map_or(MapResult::Keep, |map| map(path, &mut stat)) {
                MapResult::Keep => {
                    if self.show_parents() {
                        shown = Some(stat);
                    }
                }
                MapResult::Exclude => {}
                MapResult::SkipDir => {
                    self.inner.skip_dir();
                    return Ok(None);
                }
            }
        }
        if filtering && is_dir {
            let path = path.to_owned();
            self.parents.push(Parent { stat: late, path, include, exclude, skip: false });
        }
        Ok(shown)
    }

    /// Queues directories around an entry that were not shown; `false` when one forbids the entry.
    fn show_parents(&mut self) -> bool {
        for parent in &mut self.parents {
            let Some(stat) = &parent.stat else { continue };
            let mut stat = stat.clone();
            match self.fs.map.as_ref().map_or(MapResult::Keep, |map| map(&parent.path, &mut stat)) {
                MapResult::Keep => {}
                MapResult::Exclude => continue,
                MapResult::SkipDir => {
                    parent.skip = true;
                    return false;
                }
            }
            parent.stat = None;
            self.pending.insert(0, stat);
        }
        true
    }
}

impl Walk for FilterWalk<'_> {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if let Some(stat) = self.pending.pop() {
                let entry = Entry { path: stat.path.clone(), kind: stat.mode & mode::TYPE };
                self.last.clone_from(&entry.path);
                self.current = Some(stat);
                return Ok(Some(entry));
            }
            self.current = None;
            let entry = match self.inner.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(None),
                Err(error) if error.is_permission() && self.skipped.take().is_some() => continue,
                Err(error) => return Err(error),
            };
            self.skipped = None;
            match self.decide(&entry) {
                Ok(Some(stat)) => self.pending.insert(0, stat),
                Ok(None) => {}
                Err(error) if error.is_not_found() => self.inner.skip_dir(),
                Err(error) => return Err(error),
            }
        }
    }

    fn stat(&mut self) -> Result<Stat, Error> {
        self.current
            .take()
            .ok_or_else(|| Error::io("lstat", "", std::io::Error::from(std::io::ErrorKind::NotFound)))
    }

    fn skip_dir(&mut self) {
        if self.pending.is_empty() {
            self.inner.skip_dir();
            return;
        }
        // A directory that was shown late, for the sake of an entry in it. All that is pending is
        // below it.
        self.pending.clear();
        self.inner.skip_dir();
        if let Some(parent) = self.parents.iter_mut().find(|parent| parent.path == self.last) {
            parent.skip = true;
        }
    }
}

#[cfg(test)]
mod tests;
