use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Writes what exporters said as JSON. Values that are JSON objects in base64 are written as such.
pub(crate) fn write(path: &Path, response: &BTreeMap<String, String>) -> Result<()> {
    replace(path, to_json(response).as_bytes())
}

/// Puts a file in place at once.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let error = || format!("failed to write {}", path.display());
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(dir)
        .with_context(error)?;
    file.write_all(content).with_context(error)?;
    file.persist(path).with_context(error)?;
    Ok(())
}

fn to_json(response: &BTreeMap<String, String>) -> String {
    let mut out = String::from("{");
    for (number, (key, value)) in response.iter().enumerate() {
        out.push_str(if number == 0 { "\n  " } else { ",\n  " });
        out.push_str(&text(key));
        out.push_str(": ");
        match object(value) {
            Some(json) => indent(&json, 1, &mut out),
            None => out.push_str(&text(value)),
        }
    }
    out.push_str(if response.is_empty() { "}" } else { "\n}" });
    out
}

/// A JSON text with the escapes that Go adds for HTML.
fn text(value: &str) -> String {
    let mut out = String::new();
    buildkit_util_gojson::write_string(&mut out, value);
    out
}

/// The JSON of a non-empty object that is written in base64.
fn object(value: &str) -> Option<String> {
    let json = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    match serde_json::from_str::<serde_json::Value>(&json).ok()? {
        serde_json::Value::Object(members) if !members.is_empty() => Some(json),
        _ => None,
    }
}

/// Writes valid JSON with two spaces for each level and its members in their order.
fn indent(json: &str, level: usize, out: &mut String) {
    let mut level = level;
    let mut in_text = false;
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, level: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(level));
    };
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            match c {
                '\\' => out.extend(chars.next()),
                '"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.peek().is_some_and(|next| next.is_whitespace()) {
                    chars.next();
                }
                if let Some(&close @ ('}' | ']')) = chars.peek() {
                    chars.next();
                    out.push(close);
                } else {
                    level += 1;
                    line(out, level);
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                line(out, level);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(out, level);
            }
            ':' => out.push_str(": "),
            c if c.is_whitespace() => {}
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_expanded() {
        let encoded = STANDARD.encode(r#"{"b":[1,{}, "x\"{"],"a":{}}"#);
        let response = [
            ("plain".to_owned(), "a<b".to_owned()),
            ("descriptor".to_owned(), encoded),
            ("list".to_owned(), STANDARD.encode("[1]")),
        ];
        assert_eq!(
            to_json(&response.into()),
            "{\n  \"descriptor\": {\n    \"b\": [\n      1,\n      {},\n      \"x\\\"{\"\n    ],\n    \
             \"a\": {}\n  },\n  \"list\": \"WzFd\",\n  \"plain\": \"a\\u003cb\"\n}"
        );
        assert_eq!(to_json(&BTreeMap::new()), "{}");
    }

    #[test]
    fn files_are_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("m.json");
        fs_err::write(&path, "old").expect("writes");
        write(&path, &[("a".to_owned(), "b".to_owned())].into()).expect("writes");
        let content = fs_err::read_to_string(&path).expect("reads");
        assert_eq!(content, "{\n  \"a\": \"b\"\n}");
    }
}
