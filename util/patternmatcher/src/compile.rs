use regex::Regex;

use crate::{Error, go_regex};

/// How a pattern is matched; upstream's four ways, whose edges differ from those of the regular
/// expression they stand for.
#[derive(Debug)]
pub(crate) enum Compiled {
    /// The path is the pattern.
    Exact,
    /// The path starts with the pattern without its `**`.
    Prefix,
    /// The path ends with the pattern without its leading `**`, or is it without the `/` after it.
    Suffix,
    /// The path matches the expression.
    Expression(Box<Expression>),
    /// The pattern passed `filepath.Match` but is no regular expression.
    Bad,
}

/// A regular expression, and what every path that it matches begins and ends with.
#[derive(Debug)]
pub(crate) struct Expression {
    regex: Regex,
    prefix: String,
    suffix: String,
    shape: Shape,
}

#[derive(Debug, PartialEq)]
enum Shape {
    /// Only the expression knows.
    Any,
    /// `*literal`: the suffix after any name.
    Name,
    /// `**/*literal`: the suffix after any path.
    Path,
}

impl Expression {
    #[cfg(test)]
    pub(crate) fn matches_by_regex(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_suffix(self.suffix.as_str()) else { return false };
        if !path.starts_with(self.prefix.as_str()) {
            return false;
        }
        match self.shape {
            Shape::Name => !rest.contains('/'),
            // The expression's dot stops at line ends.
            Shape::Path if !rest.contains('\n') => true,
            _ => self.regex.is_match(path),
        }
    }
}

impl Compiled {
    pub(crate) fn matches(&self, pattern: &str, path: &str) -> Result<bool, Error> {
        Ok(match self {
            Self::Exact => path == pattern,
            Self::Prefix => path.starts_with(pattern.strip_suffix("**").unwrap_or(pattern)),
            Self::Suffix => {
                let suffix = pattern.strip_prefix("**").unwrap_or(pattern);
                path.ends_with(suffix) || suffix.strip_prefix('/').is_some_and(|name| path == name)
            }
            Self::Expression(expression) => expression.matches(path),
            Self::Bad => return Err(Error::BadPattern),
        })
    }

    pub(crate) fn new(pattern: &str) -> Self {
        #[derive(PartialEq)]
        enum Kind {
            Exact,
            Prefix,
            Suffix,
            Expression,
        }
        let mut kind = Kind::Exact;
        let mut expression = String::from("^");
        // Go's text scanner skips a byte order mark at the start.
        let mut chars = pattern.strip_prefix('\u{feff}').unwrap_or(pattern).chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    let _ = chars.next_if_eq(&'/');
                    if chars.peek().is_some() {
                        expression.push_str("(.*/)?");
                        kind = Kind::Expression;
                    } else if kind == Kind::Exact {
                        kind = Kind::Prefix;
                    } else {
                        expression.push_str(".*");
                        kind = Kind::Expression;
                    }
                    if first {
                        kind = Kind::Suffix;
                    }
                }
                '*' => {
                    expression.push_str("[^/]*");
                    kind = Kind::Expression;
                }
                '?' => {
                    expression.push_str("[^/]");
                    kind = Kind::Expression;
                }
                // Upstream means to escape `|{}` as well, but does not.
                '.' | '+' | '(' | ')' | '$' => {
                    expression.push('\\');
                    expression.push(c);
                }
                '\\' => {
                    expression.push('\\');
                    if let Some(escaped) = chars.next() {
                        expression.push(escaped);
                        kind = Kind::Expression;
                    }
                }
                '[' | ']' => {
                    expression.push(c);
                    kind = Kind::Expression;
                }
                other => expression.push(other),
            }
            first = false;
        }
        match kind {
            Kind::Exact => Self::Exact,
            Kind::Prefix => Self::Prefix,
            Kind::Suffix => Self::Suffix,
            Kind::Expression => {
                expression.push('$');
                let regex = go_regex::translate(&expression).ok().and_then(|text| Regex::new(&text).ok());
                match regex {
                    Some(regex) => Self::Expression(Box::new(with_affixes(regex, pattern))),
                    None => Self::Bad,
                }
            }
        }
    }
}

fn with_affixes(regex: Regex, pattern: &str) -> Expression {
    if pattern.contains(['|', '{', '}', '^', '[', ']', '\\', '\u{feff}']) {
        let none = String::new();
        return Expression { regex, prefix: none.clone(), suffix: none, shape: Shape::Any };
    }
    let meta = ['*', '?'];
    let prefix = pattern.split(meta).next().unwrap_or_default();
    // `**/` matches nothing at all too, so a `/` before or after it need not be in the path.
    let suffix = match pattern.rfind(meta) {
        Some(at) if pattern[..=at].ends_with("**") => {
            pattern[at + 1..].strip_prefix('/').unwrap_or(&pattern[at + 1..])
        }
        Some(at) => &pattern[at + 1..],
        None => "",
    };
    let shape = match &pattern[..pattern.len() - suffix.len()] {
        "*" => Shape::Name,
        "**/*" => Shape::Path,
        _ => Shape::Any,
    };
    Expression { regex, prefix: prefix.to_owned(), suffix: suffix.to_owned(), shape }
}
