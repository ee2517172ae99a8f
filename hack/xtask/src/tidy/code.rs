//! Rust source without what is not code.

/// What to keep of a source file besides its code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Code only.
    Code,
    /// Code and doc comments, whose examples are code too.
    Docs,
}

/// Replaces comments and the content of literals by spaces; lines stay where they are.
pub fn code(text: &str, keep: Keep) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, kept) = token(rest, first, keep, out.chars().next_back());
        let (token, tail) = rest.split_at(length);
        if kept {
            out.push_str(token);
        } else {
            out.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = tail;
    }
    out
}

/// The length of the token at the start of `rest` and whether it is code.
fn token(rest: &str, first: char, keep: Keep, before: Option<char>) -> (usize, bool) {
    if rest.starts_with("//") {
        let docs = rest.starts_with("///") || rest.starts_with("//!");
        return (rest.find('\n').unwrap_or(rest.len()), docs && keep == Keep::Docs);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word
        && (rest.starts_with("r\"")
            || rest.starts_with("r#")
            || rest.starts_with("br\"")
            || rest.starts_with("br#"))
        && let Some(length) = raw_string(rest)
    {
        return (length, false);
    }
    match first {
        '"' => (string(rest), false),
        '\'' => character(rest).map_or((1, true), |length| (length, false)),
        _ => (first.len_utf8(), true),
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let start = rest.find('r')? + 1;
    let hashes = rest[start..].bytes().take_while(|b| *b == b'#').count();
    if rest.as_bytes().get(start + hashes) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = start + hashes + 1;
    Some(rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len()))
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?;
        return chars.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1)
}

/// Whether `word` stands in `text` as a whole identifier.
pub fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part)
            && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str], not: &[&str]) {
        let code = code(text, Keep::Code);
        assert_eq!(code.lines().count(), text.lines().count(), "{text}");
        for word in expect {
            assert!(has_word(&code, word), "{word} in {code:?}");
        }
        for word in not {
            assert!(!has_word(&code, word), "{word} in {code:?}");
        }
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        check("a // b\nc", &["a", "c"], &["b"]);
        check("a /* b /* c */ d */ e", &["a", "e"], &["b", "c", "d"]);
        check(r#"f("a \" b") + c"#, &["f", "c"], &["a", "b"]);
        check("r#\"a \" b\"# + c", &["c"], &["a", "b", "r"]);
        check("for_r(\"a\") + br\"b\"", &["for_r"], &["a", "b"]);
        check(r"'\'' + 'a' + b", &["b"], &["a"]);
        check("fn f<'a>(x: &'a str) {}", &["fn", "str", "a"], &[]);
        check("/// docs\nfn f() {}", &["f"], &["docs"]);
    }

    #[test]
    fn doc_comments_are_kept_on_request() {
        assert!(has_word(&code("/// docs\n// not", Keep::Docs), "docs"));
        assert!(!has_word(&code("/// docs\n// not", Keep::Docs), "not"));
    }

    #[test]
    fn words_are_whole_identifiers() {
        assert!(has_word("use tokio::spawn", "tokio"));
        assert!(!has_word("use tokio_util::x", "tokio"));
        assert!(!has_word("my_tokio", "tokio"));
    }
}
