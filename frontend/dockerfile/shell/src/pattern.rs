use regex::Regex;

use crate::cursor::Cursor;
use crate::error::Cause;

/// A wildcard pattern of a shell, without bracket expressions: `*` is any text, `?` any character, neither
/// of them a line end.
pub(crate) struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// What occurs anywhere, as long as possible.
    pub(crate) fn anywhere(text: &str) -> Result<Self, Cause> {
        Self::compile(text, true, "")
    }

    /// What a value begins with, as long as possible, or as short.
    pub(crate) fn prefix(text: &str, greedy: bool) -> Result<Self, Cause> {
        Self::compile(text, greedy, "^")
    }

    fn compile(text: &str, greedy: bool, anchor: &str) -> Result<Self, Cause> {
        let invalid = |reason| Cause::InvalidPattern { pattern: text.to_owned(), reason };
        let regex = format!("{anchor}{}", to_regex(text, greedy).map_err(invalid)?);
        let regex = Regex::new(&regex).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { regex })
    }

    /// `value` without what it begins with.
    pub(crate) fn trim<'v>(&self, value: &'v str) -> &'v str {
        self.regex.find(value).map_or(value, |found| &value[found.end()..])
    }

    /// `value` with the first match replaced, taken literally.
    pub(crate) fn replace_first(&self, value: &str, replacement: &str) -> String {
        match self.regex.find(value) {
            Some(found) => [&value[..found.start()], replacement, &value[found.end()..]].concat(),
            None => value.to_owned(),
        }
    }

    /// `value` with all matches replaced, in which `$0` is the match. The result stays below `limit` bytes.
    pub(crate) fn replace_all(&self, value: &str, replacement: &str, limit: usize) -> Result<String, Cause> {
        let (mut out, mut last) = (String::new(), 0);
        for found in self.regex.captures_iter(value) {
            let Some(whole) = found.get(0) else { continue };
            out.push_str(&value[last..whole.start()]);
            // What `$0` brings is at most the match for each two bytes.
            let most = replacement.len().saturating_add((replacement.len() / 2).saturating_mul(whole.len()));
            if replacement.contains('$') && out.len().saturating_add(most) > limit {
                return Err(Cause::TooLarge { limit });
            }
            found.expand(replacement, &mut out);
            if out.len() > limit {
                return Err(Cause::TooLarge { limit });
            }
            last = whole.end();
        }
        out.push_str(&value[last..]);
        Ok(out)
    }
}

/// `value` without what it ends with.
///
/// The shortest match at the end is found by looking for the pattern from the end: both are reversed.
pub(crate) fn trim_suffix(pattern: &str, value: &str, greedy: bool) -> Result<String, Cause> {
    let pattern = reverse_pattern(pattern);
    let reversed: String = value.chars().rev().collect();
    let pattern = Pattern::prefix(&pattern, greedy)?;
    let rest = pattern.trim(&reversed);
    Ok(rest.chars().rev().collect())
}

/// The pattern from its end, in which escape characters stay before what they escape.
fn reverse_pattern(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let escaped = if first == '\\' { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
        let (part, behind) = rest.split_at(first.len_utf8() + escaped);
        parts.push(part);
        rest = behind;
    }
    parts.reverse();
    parts.concat()
}

fn to_regex(pattern: &str, greedy: bool) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 4);
    let mut cursor = Cursor::new(pattern);
    while let Some(c) = cursor.next() {
        let literal = match c {
            '*' => {
                out.push_str(if greedy { ".*" } else { ".*?" });
                continue;
            }
            '?' => {
                out.push('.');
                continue;
            }
            // These were escaped because of the substitution around, not because of the pattern.
            '\\' if matches!(cursor.peek(), Some('}' | '/')) => continue,
            '\\' => match cursor.next() {
                Some(c @ ('*' | '?' | '\\')) => c,
                other => return Err(format!("invalid escape '\\{}'", other.unwrap_or('\u{fffd}'))),
            },
            c => c,
        };
        out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_regular_expressions() {
        for (pattern, greedy, expected) in [
            ("*", true, Ok(".*")),
            ("*", false, Ok(".*?")),
            ("a?b.c", true, Ok(r"a.b\.c")),
            (r"\*\?\\", true, Ok(r"\*\?\\")),
            (r"\}\/", true, Ok(r"\}/")),
            ("[x]{2}+(y)|^$", true, Ok(r"\[x\]\{2\}\+\(y\)\|\^\$")),
            (r"\a", true, Err(r"invalid escape '\a'")),
            ("\\", true, Err("invalid escape '\\\u{fffd}'")),
        ] {
            assert_eq!(to_regex(pattern, greedy).as_deref().map_err(String::as_str), expected, "{pattern}");
        }
    }

    #[test]
    fn reversed_patterns_keep_their_escapes() {
        for (pattern, expected) in [(r"a\*c", r"c\*a"), (r"\*", r"\*"), ("ab", "ba"), (r"ü\\x", r"x\\ü")] {
            assert_eq!(reverse_pattern(pattern), expected);
        }
    }
}
