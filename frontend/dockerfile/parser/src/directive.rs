use std::collections::BTreeSet;

use crate::lines::Lines;
use crate::{Error, Range};

/// A comment at the top of the file that says how to read it, as `# syntax=docker/dockerfile:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Which one.
    pub kind: DirectiveKind,
    /// What is behind `=`, without the blanks around.
    pub value: String,
    /// Its line.
    pub range: Range,
}

/// The directives that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DirectiveKind {
    /// The image of the frontend that reads the file.
    Syntax,
    /// The escape character.
    Escape,
    /// What the linter skips, and whether its warnings are errors.
    Check,
}

impl DirectiveKind {
    /// Its name in lower case; in files case does not matter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Escape => "escape",
            Self::Check => "check",
        }
    }
}

/// Reads directives line by line, until the first line that is none.
#[derive(Clone, Debug)]
pub struct DirectiveParser {
    line: u32,
    prefix: &'static str,
    seen: BTreeSet<DirectiveKind>,
    done: bool,
}

impl Default for DirectiveParser {
    fn default() -> Self {
        Self::behind(0, "#")
    }
}

impl DirectiveParser {
    /// Reads comments that begin with `prefix`, behind the first `lines` lines of a file.
    pub(crate) fn behind(lines: u32, prefix: &'static str) -> Self {
        Self { line: lines, prefix, seen: BTreeSet::new(), done: false }
    }

    /// The directive on the next line, which has no line end. After a line without one there are no more.
    ///
    /// # Errors
    /// The directive stands twice.
    pub fn parse_line(&mut self, line: &str) -> Result<Option<Directive>, Error> {
        self.line = self.line.saturating_add(1);
        if self.done {
            return Ok(None);
        }
        let found = line.strip_prefix(self.prefix).and_then(|comment| read(comment.trim_start()));
        let Some((kind, value)) = found else {
            self.done = true;
            return Ok(None);
        };
        if !self.seen.insert(kind) {
            return Err(Error::DuplicateDirective(kind.as_str()));
        }
        Ok(Some(Directive { kind, value: value.to_owned(), range: Range::line(self.line) }))
    }

    /// The directives that `data` begins with, up to one that stands twice.
    pub fn parse_all(mut self, data: &str) -> Vec<Directive> {
        let mut lines = Lines::new(data);
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            let line = line.strip_suffix('\n').unwrap_or(line);
            match self.parse_line(line.strip_suffix('\r').unwrap_or(line)) {
                Ok(Some(directive)) => found.push(directive),
                _ => break,
            }
        }
        found
    }
}

/// `NAME = VALUE`, of a known name.
fn read(text: &str) -> Option<(DirectiveKind, &str)> {
    let blank = ['\t', '\n', '\u{c}', '\r', ' '];
    let (name, value) = text.split_once('=')?;
    let name = name.trim_end_matches(blank).to_ascii_lowercase();
    let kinds = [DirectiveKind::Syntax, DirectiveKind::Escape, DirectiveKind::Check];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == name)?;
    let trimmed = value.trim_matches(blank);
    // Of nothing but blanks the last one is the value.
    let value = if trimmed.is_empty() { &value[value.len().checked_sub(1)?..] } else { trimmed };
    Some((kind, value))
}
