//! How Go's `path/filepath` matches patterns, which those of ignore files are defined by.

use crate::Error;

/// Whether a path element has a wildcard that is not escaped.
pub fn has_wildcards(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether `name` matches the shell pattern, as Go's `filepath.Match` decides: `*` and `?` do not
/// match `/`, classes are `[a-z]` or `[^a-z]`, `\` escapes.
///
/// # Errors
/// [`Error::BadPattern`] when the part of the pattern that had to be looked at is malformed. A
/// mismatch found earlier hides a malformed rest, as in Go.
pub fn glob_match(pattern: &str, name: &str) -> Result<bool, Error> {
    let (mut pattern, mut name) = (pattern.as_bytes(), name.as_bytes());
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = split_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        if let Some(tail) = match_chunk(chunk, name)?
            && (tail.is_empty() || !pattern.is_empty())
        {
            name = tail;
            continue;
        }
        if star {
            for skip in 0..name.len() {
                if name[skip] == b'/' {
                    break;
                }
                if let Some(tail) = match_chunk(chunk, &name[skip + 1..])? {
                    if pattern.is_empty() && !tail.is_empty() {
                        continue;
                    }
                    name = tail;
                    continue 'pattern;
                }
            }
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Cuts a pattern after its leading stars and the text up to the next star.
fn split_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|&&byte| byte == b'*').count();
    let body = &pattern[stars..];
    let (mut at, mut in_class) = (0, false);
    while at < body.len() {
        match body[at] {
            b'\\' if at + 1 < body.len() => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    (stars > 0, &body[..at], &body[at..])
}

/// The first character and its width; a broken one is U+FFFD of width 1.
fn decode(bytes: &[u8]) -> (char, usize) {
    let width = match bytes.first() {
        None => return (char::REPLACEMENT_CHARACTER, 0),
        Some(0..=0x7f) => 1,
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(_) => 4,
    };
    bytes
        .get(..width)
        .and_then(|head| std::str::from_utf8(head).ok())
        .and_then(|text| text.chars().next())
        .map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, width))
}

/// Matches a chunk without stars at the start of `name`; gives what is left of `name`.
fn match_chunk<'a>(mut chunk: &[u8], mut name: &'a [u8]) -> Result<Option<&'a [u8]>, Error> {
    // After a mismatch the rest of the chunk is still checked for its form.
    let mut failed = false;
    while let Some(&first) = chunk.first() {
        failed |= name.is_empty();
        match first {
            b'[' => {
                let mut found = '\0';
                if !failed {
                    let (c, width) = decode(name);
                    found = c;
                    name = &name[width..];
                }
                chunk = &chunk[1..];
                let negated = chunk.first() == Some(&b'^');
                if negated {
                    chunk = &chunk[1..];
                }
                let (mut hit, mut ranges) = (false, 0);
                loop {
                    if ranges > 0 && chunk.first() == Some(&b']') {
                        chunk = &chunk[1..];
                        break;
                    }
                    let (low, rest) = class_char(chunk)?;
                    chunk = rest;
                    let mut high = low;
                    if chunk.first() == Some(&b'-') {
                        (high, chunk) = class_char(&chunk[1..])?;
                    }
                    hit |= low <= found && found <= high;
                    ranges += 1;
                }
                failed |= hit == negated;
                continue;
            }
            b'?' => {
                if !failed {
                    failed = name[0] == b'/';
                    name = &name[decode(name).1..];
                }
                chunk = &chunk[1..];
                continue;
            }
            b'\\' => {
                chunk = &chunk[1..];
                if chunk.is_empty() {
                    return Err(Error::BadPattern);
                }
            }
            _ => {}
        }
        if !failed {
            failed = chunk[0] != name[0];
            name = &name[1..];
        }
        chunk = &chunk[1..];
    }
    Ok((!failed).then_some(name))
}

/// A character of a class, perhaps escaped, that something must follow.
fn class_char(mut chunk: &[u8]) -> Result<(char, &[u8]), Error> {
    if matches!(chunk.first(), None | Some(b'-' | b']')) {
        return Err(Error::BadPattern);
    }
    if chunk[0] == b'\\' {
        chunk = &chunk[1..];
    }
    let (c, width) = decode(chunk);
    if width == 0 || (c == char::REPLACEMENT_CHARACTER && width == 1) || chunk.len() == width {
        return Err(Error::BadPattern);
    }
    Ok((c, &chunk[width..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let yes = Ok(true);
        let no = Ok(false);
        let bad = Err(Error::BadPattern);
        for (pattern, name, expect) in [
            ("abc", "abc", &yes),
            ("*", "abc", &yes),
            ("*", "a/b", &no),
            ("*c", "abc", &yes),
            ("a*", "ab/c", &no),
            ("a*/b", "a/c/b", &no),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", &yes),
            ("a*b?c*x", "abxbbxdbxebxczzx", &yes),
            ("ab[c]", "abc", &yes),
            ("ab[^b-d]", "abc", &no),
            ("a\\*b", "a*b", &yes),
            ("a?b", "a☺b", &yes),
            ("a???b", "a☺b", &no),
            ("[a-ζ]*", "α", &yes),
            ("*[a-ζ]", "A", &no),
            ("[\\]a]", "]", &yes),
            ("[]a]", "]", &bad),
            ("[x-]", "x", &bad),
            ("[-x]", "x", &bad),
            ("\\", "a", &bad),
            ("[", "a", &bad),
            ("[^", "a", &bad),
            ("a[", "a", &bad),
            ("a[", "ab", &bad),
            ("*x", "xxx", &yes),
        ] {
            assert_eq!(&glob_match(pattern, name), expect, "{pattern:?} {name:?}");
        }
    }
}
