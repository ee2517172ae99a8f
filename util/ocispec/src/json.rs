use serde::Serialize;

/// The JSON that Go's `json.Marshal` writes for the same fields.
///
/// # Panics
/// Never for the types of this crate: their keys are strings and their numbers integers.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    escape(serde_json::to_vec(value).unwrap_or_default())
}

/// The JSON that Go's `json.MarshalIndent` writes for the same fields, with two spaces.
pub fn to_json_pretty<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    escape(serde_json::to_vec_pretty(value).unwrap_or_default())
}

/// Go escapes what HTML and JavaScript would take amiss. None of it occurs outside of strings.
fn escape(json: Vec<u8>) -> Vec<u8> {
    if !json.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        return json;
    }
    let mut out = Vec::with_capacity(json.len() + 32);
    let mut rest = json.as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        let (text, len): (&[u8], usize) = match rest {
            [b'<', ..] => (b"\\u003c", 1),
            [b'>', ..] => (b"\\u003e", 1),
            [b'&', ..] => (b"\\u0026", 1),
            [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
            _ => {
                out.push(byte);
                rest = after;
                continue;
            }
        };
        out.extend_from_slice(text);
        rest = &rest[len..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_escapes_is_escaped() {
        assert_eq!(
            to_json("a<b>&\u{2028}\u{2029}é\u{201c}"),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029é\u{201c}\"".as_bytes()
        );
        assert_eq!(to_json("plain"), b"\"plain\"");
        assert_eq!(to_json_pretty(&[1]), b"[\n  1\n]");
    }
}
