use crate::{Error, Result};

/// Splits a command line into words as a POSIX shell does, without expanding anything: single
/// quotes keep all characters, double quotes all but the backslash, which takes the next character
/// literally; `#` at the start of a word begins a comment that ends with the line.
///
/// # Errors
/// [`Error::UnclosedQuote`] when the line ends inside quotes or after a backslash.
pub fn split(line: &str) -> Result<Vec<String>> {
    let unclosed = || Error::UnclosedQuote(line.to_owned());
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => {
                chars.by_ref().find(|&c| c == '\n');
            }
            '\\' => {
                let next = chars.next().ok_or_else(unclosed)?;
                word.get_or_insert_default().push(next);
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(unclosed)? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(unclosed)? {
                        '"' => break,
                        '\\' => word.push(chars.next().ok_or_else(unclosed)?),
                        other => word.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (line, expect) in [
            ("", &[][..]),
            ("  a  b\tc\n", &["a", "b", "c"]),
            ("sh -c 'a \"b\" \\n'", &["sh", "-c", "a \"b\" \\n"]),
            (r#"a"b c"d "\"x\$" ''"#, &["ab cd", "\"x$", ""]),
            ("a #b\nc d#e", &["a", "c", "d#e"]),
            (r"a\ b", &["a b"]),
        ] {
            assert_eq!(split(line).expect(line), expect, "{line}");
        }
        for line in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(line), Err(Error::UnclosedQuote(line.to_owned())));
        }
    }
}
