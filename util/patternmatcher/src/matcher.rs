use std::sync::OnceLock;

use buildkit_util_gopath::clean;

use crate::compile::Compiled;
use crate::{Error, glob_match};

/// One line of an ignore file, or one include pattern.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    exclusion: bool,
    compiled: OnceLock<Compiled>,
}

impl Pattern {
    /// The cleaned pattern, without the `!`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern was written with a `!`.
    pub fn is_exclusion(&self) -> bool {
        self.exclusion
    }

    /// The pattern without a trailing `/**` or `/*`: the directory that all its matches are in, if
    /// the rest has no wildcards.
    pub fn without_trailing_glob(&self) -> &str {
        let text = self.text.strip_suffix("/**").unwrap_or(&self.text);
        text.strip_suffix("/*").unwrap_or(text)
    }

    fn matches(&self, path: &str) -> Result<bool, Error> {
        self.compiled.get_or_init(|| Compiled::new(&self.text)).matches(&self.text, path)
    }

    fn matches_a_parent(&self, path: &str) -> Result<bool, Error> {
        for (at, _) in path.match_indices('/') {
            // A leading slash has an empty parent.
            if self.matches(&path[..at])? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Which patterns a directory, or one above it, matched. The value of [`Default`] is for the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchInfo {
    matched: Vec<bool>,
}

/// A list of patterns. Matching needs no lock and may be done by several threads.
#[derive(Debug)]
pub struct PatternMatcher {
    patterns: Vec<Pattern>,
    exclusions: bool,
}

impl PatternMatcher {
    /// Takes patterns as users write them; blank ones are left out.
    ///
    /// # Errors
    /// [`Error::BadPattern`] and [`Error::LoneExclusion`]. Some malformed patterns are found only
    /// when they are matched with a path, as upstream finds them.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let mut matcher = Self { patterns: Vec::new(), exclusions: false };
        for pattern in patterns {
            let trimmed = pattern.as_ref().trim();
            if trimmed.is_empty() {
                continue;
            }
            let cleaned = clean(trimmed);
            let (text, exclusion) = match cleaned.strip_prefix('!') {
                Some("") => return Err(Error::LoneExclusion),
                Some(rest) => (rest.to_owned(), true),
                None => (cleaned, false),
            };
            glob_match(&text, ".")?;
            matcher.exclusions |= exclusion;
            matcher.patterns.push(Pattern { text, exclusion, compiled: OnceLock::new() });
        }
        Ok(matcher)
    }

    /// The patterns, in the order that they were given.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether any pattern was written with a `!`.
    pub fn has_exclusions(&self) -> bool {
        self.exclusions
    }

    /// Whether a path, by itself or by a directory it is in, matches in the end.
    ///
    /// # Errors
    /// [`Error::BadPattern`] when a pattern turns out to be malformed.
    pub fn matches_or_parent_matches(&self, path: &str) -> Result<bool, Error> {
        let mut matched = false;
        for pattern in &self.patterns {
            if pattern.exclusion != matched {
                continue;
            }
            if pattern.matches(path)? || pattern.matches_a_parent(path)? {
                matched = !pattern.exclusion;
            }
        }
        Ok(matched)
    }

    /// As [`matches_or_parent_matches`](Self::matches_or_parent_matches), for those who walk a tree
    /// and have the results of the directory. `info` is filled with what entries below `path` need;
    /// leave it out for files.
    ///
    /// # Errors
    /// [`Error::BadPattern`] as above, [`Error::ForeignMatchInfo`] when `parent` is of another
    /// matcher.
    pub fn matches_using_parent_results(
        &self,
        path: &str,
        parent: &MatchInfo,
        mut info: Option<&mut MatchInfo>,
    ) -> Result<bool, Error> {
        let top = parent.matched.is_empty();
        if !top && parent.matched.len() != self.patterns.len() {
            return Err(Error::ForeignMatchInfo);
        }
        if let Some(info) = &mut info {
            info.matched.clear();
            info.matched.resize(self.patterns.len(), false);
        }
        let mut matched = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let mut hit = !top && parent.matched[index];
            if !hit {
                if pattern.exclusion != matched {
                    continue;
                }
                hit = pattern.matches(path)? || (top && pattern.matches_a_parent(path)?);
            }
            if let Some(info) = &mut info {
                info.matched[index] = hit;
            }
            if hit {
                matched = !pattern.exclusion;
            }
        }
        Ok(matched)
    }
}

/// Whether a path matches some patterns; the root (`.`) never does.
///
/// # Errors
/// As [`PatternMatcher::new`] and [`PatternMatcher::matches_or_parent_matches`].
pub fn matches_or_parent_matches<P: AsRef<str>>(
    path: &str,
    patterns: impl IntoIterator<Item = P>,
) -> Result<bool, Error> {
    let matcher = PatternMatcher::new(patterns)?;
    let path = clean(path);
    if path == "." {
        return Ok(false);
    }
    matcher.matches_or_parent_matches(&path)
}

#[cfg(test)]
mod tests;
