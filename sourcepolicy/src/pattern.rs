use regex::bytes::{Regex, RegexBuilder};

use crate::template::{Group, expand};

/// Most bytes of a regular expression.
pub const MAX_REGEX: usize = 8 << 10;

/// About the most bytes that a compiled one takes.
const MAX_PROGRAM: usize = 256 << 10;

/// A regular expression as policies have it: Go's syntax and meaning, which for classes such as `\w` is ASCII.
#[derive(Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_REGEX {
            return Err(format!(
                "error parsing regexp: it has {} bytes, at most {MAX_REGEX} are allowed",
                text.len()
            ));
        }
        let failed = |reason: &str| format!("error parsing regexp: {reason}: `{text}`");
        let regex = RegexBuilder::new(&translate(text).map_err(&failed)?)
            .unicode(false)
            .size_limit(MAX_PROGRAM)
            .dfa_size_limit(MAX_PROGRAM)
            .build();
        regex.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => failed("expression too large"),
            // The library's own text is many lines, the last of which says what is wrong.
            error => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default();
                failed(reason.trim_start_matches("error: ").trim())
            }
        })
    }

    /// Whether it matches some part of a text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }

    /// The text with each part that matches replaced by a template with its groups; `None` if that has more than
    /// `limit` bytes.
    pub(crate) fn replace(&self, text: &str, template: &str, limit: usize) -> Option<Vec<u8>> {
        let text = text.as_bytes();
        let mut out = Vec::with_capacity(text.len());
        let mut done = 0;
        for captures in self.0.captures_iter(text) {
            let Some(all) = captures.get(0) else { continue };
            out.extend_from_slice(&text[done..all.start()]);
            let group = |group: Group<'_>| {
                let found = match group {
                    Group::Number(number) => captures.get(number),
                    Group::Name(name) => captures.name(name),
                };
                found.map(|found| found.as_bytes())
            };
            expand(&mut out, template, group, limit)?;
            done = all.end();
        }
        out.extend_from_slice(&text[done..]);
        (out.len() <= limit).then_some(out)
    }
}

/// Go's syntax in that of the library, where these differ: `\Q...\E`, and what is special inside of brackets.
fn translate(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match c {
            '\\' if !in_class && after.starts_with('Q') => {
                let quoted = &after[1..];
                let (quoted, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                out.push_str(&regex::escape(quoted));
                rest = after;
                continue;
            }
            '\\' => {
                let escaped = after.chars().next();
                out.push(c);
                out.extend(escaped);
                rest = &after[escaped.map_or(0, char::len_utf8)..];
                continue;
            }
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                rest = after;
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
                // The first one is no end.
                if let Some(after) = rest.strip_prefix(']') {
                    out.push_str("\\]");
                    rest = after;
                }
                continue;
            }
            '[' => match after.strip_prefix(':').and_then(|after| after.find(":]")) {
                Some(end) => {
                    let (name, after) = rest.split_at(end + 4);
                    out.push_str(name);
                    rest = after;
                    continue;
                }
                None => out.push_str("\\["),
            },
            ']' => {
                in_class = false;
                out.push(c);
            }
            '&' | '~' if in_class => out.extend(['\\', c]),
            '-' if in_class && after.starts_with('-') => {
                return Err("`--` in brackets is not supported, write `\\-`");
            }
            _ => out.push(c),
        }
        rest = after;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(regex: &str, text: &str) -> bool {
        Pattern::parse(regex).expect("a regex").matches(text)
    }

    #[test]
    fn syntax_is_that_of_go() {
        for (regex, text, want) in [
            ("b", "abc", true),
            ("^b", "abc", false),
            (r"^\w+$", "a_1", true),
            (r"^\w+$", "é", false),
            (r"^\d$", "٣", false),
            ("a$", "a\n", false),
            ("a.b", "a\nb", false),
            ("(?s)a.b", "a\nb", true),
            (r"^\Qa.*\E$", "a.*", true),
            (r"^\Qa.*", "a.*b", true),
            (r"^\Qa.*", "aa", false),
            ("^[[a]$", "[", true),
            ("^[a&&b]$", "&", true),
            ("^[~~]$", "~", true),
            ("^[]a]$", "]", true),
            ("^[^]a]$", "]", false),
            ("^[[:alpha:]_]+$", "a_", true),
            (r"^[\]&]$", "&", true),
            (r"^[a-c\-]$", "-", true),
            ("^é$", "é", true),
            ("(?i)^A$", "a", true),
        ] {
            assert_eq!(matches(regex, text), want, "{regex} {text:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_or_is_too_large_is_refused() {
        for (regex, reason) in [
            ("(", "unclosed group"),
            ("[a", "unclosed character class"),
            (r"a\", "incomplete escape sequence"),
            ("[a--b]", "`--` in brackets"),
            (r"(a)\1", "backreferences"),
            ("((((a{100}){100}){100}){100}){100}", "expression too large"),
            (&"a".repeat(MAX_REGEX + 1), "at most 8192 are allowed"),
        ] {
            let error = Pattern::parse(regex).expect_err(regex);
            assert!(error.starts_with("error parsing regexp: ") && error.contains(reason), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn each_match_is_replaced() {
        let replace = |regex: &str, text: &str, template: &str, limit: usize| {
            let replaced = Pattern::parse(regex).expect("a regex").replace(text, template, limit);
            replaced.map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
        };
        assert_eq!(replace("a", "banana", "o", 99).as_deref(), Some("bonono"));
        assert_eq!(replace("(?P<x>a)(b)?", "ab-a", "${x}$2.", 99).as_deref(), Some("ab.-a."));
        assert_eq!(replace("", "ab", "-", 99).as_deref(), Some("-a-b-"));
        assert_eq!(replace("x", "ab", "-", 99).as_deref(), Some("ab"));
        assert_eq!(replace("a", "aaaa", "$0$0$0", 11), None);
        assert_eq!(replace("a", "aaaa", "$0$0$0", 12).as_deref(), Some("aaaaaaaaaaaa"));
    }
}
