/// Writes a quoted Go JSON string: `<`, `>` and `&` are escaped for HTML, U+2028 and U+2029 too.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        let (escape, len): (&str, usize) = match byte {
            b'"' => ("\\\"", 1),
            b'\\' => ("\\\\", 1),
            b'\n' => ("\\n", 1),
            b'\r' => ("\\r", 1),
            b'\t' => ("\\t", 1),
            0x08 => ("\\b", 1),
            0x0c => ("\\f", 1),
            b'<' => ("\\u003c", 1),
            b'>' => ("\\u003e", 1),
            b'&' => ("\\u0026", 1),
            // U+2028 and U+2029 are E2 80 A8 and E2 80 A9; no other character starts with the same
            // two bytes and ends in these.
            0xe2 => match text.as_bytes().get(at + 1..at + 3) {
                Some([0x80, 0xa8]) => ("\\u2028", 3),
                Some([0x80, 0xa9]) => ("\\u2029", 3),
                _ => continue,
            },
            0..0x20 => {
                out.push_str(&text[start..at]);
                out.push_str("\\u00");
                out.push(if byte < 0x10 { '0' } else { '1' });
                out.push(char::from_digit(u32::from(byte & 0xf), 16).unwrap_or('0'));
                start = at + 1;
                continue;
            }
            _ => continue,
        };
        out.push_str(&text[start..at]);
        out.push_str(escape);
        start = at + len;
    }
    out.push_str(&text[start..]);
    out.push('"');
}

/// Writes a quoted Go JSON string of bytes that need not be UTF-8: as Go does, each byte that is
/// not part of a valid sequence becomes the escape `\ufffd`.
pub fn write_bytes(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        let mut part = String::with_capacity(chunk.valid().len() + 2);
        write_string(&mut part, chunk.valid());
        out.push_str(&part[1..part.len() - 1]);
        for _ in chunk.invalid() {
            out.push_str("\\ufffd");
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> String {
        let mut out = String::new();
        write_string(&mut out, text);
        out
    }

    // Expected forms are what Go 1.26 prints for json.Marshal of the string.
    #[test]
    fn escapes_are_those_of_go() {
        let cases: &[(&str, &str)] = &[
            ("", r#""""#),
            ("a<b>&c", r#""a\u003cb\u003e\u0026c""#),
            ("\u{2028}x\u{2029}", r#""\u2028x\u2029""#),
            ("\u{2027}\u{202a}", "\"\u{2027}\u{202a}\""),
            ("\"\\/", r#""\"\\/""#),
            ("\n\r\t\u{8}\u{c}\u{b}\u{0}\u{1f}\u{7f}", "\"\\n\\r\\t\\b\\f\\u000b\\u0000\\u001f\u{7f}\""),
            ("äé世界😀\u{fffd}", "\"äé世界😀\u{fffd}\""),
        ];
        for (text, expected) in cases {
            assert_eq!(&string(text), expected, "{text:?}");
        }
    }

    #[test]
    fn every_invalid_byte_is_one_replacement() {
        let cases: &[(&[u8], &str)] = &[
            (b"a\xffb", r#""a\ufffdb""#),
            // A cut sequence: Go advances one byte at a time.
            (b"\xe2\x80", r#""\ufffd\ufffd""#),
            (b"\xed\xa0\x80", r#""\ufffd\ufffd\ufffd""#),
            (b"<\xc0\x80>", r#""\u003c\ufffd\ufffd\u003e""#),
            (b"ok", r#""ok""#),
        ];
        for (bytes, expected) in cases {
            let mut out = String::new();
            write_bytes(&mut out, bytes);
            assert_eq!(&out, expected, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_parser_reads_back_what_was_written(text in ".*") {
            let back: String = serde_json::from_str(&string(&text)).expect("valid JSON");
            proptest::prop_assert_eq!(back, text);
        }
    }
}
