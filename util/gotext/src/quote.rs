use std::fmt::Write as _;

/// `text` in double quotes with escapes, as Go's `%q` writes it: error texts of Dockerfiles hold such words,
/// and so do dumps of their syntax.
pub fn quoted(text: &str) -> String {
    quoted_bytes(text.as_bytes())
}

/// As [`quoted`], of what may be no text: bytes that are none are escaped.
pub fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        push_escaped(&mut out, chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            c if is_printable(c) => {
                out.push(c);
                continue;
            }
            c => {
                // Writing to a string does not fail.
                let _ = match u32::from(c) {
                    n @ 0..0x80 => write!(out, "\\x{n:02x}"),
                    n @ 0x80..=0xffff => write!(out, "\\u{n:04x}"),
                    n => write!(out, "\\U{n:08x}"),
                };
                continue;
            }
        };
        out.push_str(escape);
    }
}

fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // A letter before it, so that marks that join to it are not taken for lone ones.
    let mut bytes = [b'a', 0, 0, 0, 0];
    let len = c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..=len]).is_ok_and(|pair| pair.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_in_go() {
        for (text, expected) in [
            ("", r#""""#),
            ("a \"b\" \\ü", r#""a \"b\" \\ü""#),
            ("\t\n\r\u{7}\u{1}\u{7f}", r#""\t\n\r\a\x01\x7f""#),
            ("\u{a0}\u{fffd}\u{2028}\u{10ffff}", "\"\\u00a0\u{fffd}\\u2028\\U0010ffff\""),
            ("e\u{301}", "\"e\u{301}\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(quoted_bytes(b"/a\"b\n\xff\x01\xc3\xa9\xe2\x28"), r#""/a\"b\n\xff\x01é\xe2(""#);
    }
}
