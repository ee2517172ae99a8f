use buildkit_util_gopath::clean;

use crate::Error;

/// Bytes that an ignore file may have. Upstream has no limit; files made by people are far smaller.
pub const MAX_IGNORE_FILE_SIZE: usize = 1 << 20;

/// The patterns of an ignore file: one in a line, cleaned; lines that start with `#` and empty lines
/// are left out, a byte order mark is skipped, a leading `/` changes nothing. Invalid UTF-8 is
/// replaced.
///
/// # Errors
/// [`Error::IgnoreFileTooLarge`] over [`MAX_IGNORE_FILE_SIZE`].
pub fn read_all(content: &[u8]) -> Result<Vec<String>, Error> {
    if content.len() > MAX_IGNORE_FILE_SIZE {
        return Err(Error::IgnoreFileTooLarge { size: content.len(), limit: MAX_IGNORE_FILE_SIZE });
    }
    let text = String::from_utf8_lossy(content);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut patterns = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.starts_with('#') {
            continue;
        }
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (not, body) = match line.strip_prefix('!') {
            Some(body) => ("!", body.trim()),
            None => ("", line),
        };
        let cleaned = if body.is_empty() { String::new() } else { clean(body) };
        let relative = match cleaned.strip_prefix('/') {
            Some(rest) if !rest.is_empty() => rest,
            _ => &cleaned,
        };
        patterns.push(format!("{not}{relative}"));
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads() {
        let file = "\u{feff}test1\n/test2\n/a/file/here\n\nlastfile\n# a comment\n! /inverted/abs/path\n\
                    !\n! \n  # not a comment\nx/../y/\r\n/";
        assert_eq!(
            read_all(file.as_bytes()).expect("small"),
            [
                "test1",
                "test2",
                "a/file/here",
                "lastfile",
                "!inverted/abs/path",
                "!",
                "!",
                "# not a comment",
                "y",
                "/",
            ]
        );
        assert_eq!(read_all(b"").expect("small"), Vec::<String>::new());
        assert!(matches!(
            read_all(&vec![b'a'; MAX_IGNORE_FILE_SIZE + 1]),
            Err(Error::IgnoreFileTooLarge { .. })
        ));
    }
}
