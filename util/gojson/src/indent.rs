/// The text of Go's `json.Indent` with two spaces for a compact JSON text that this crate wrote: an empty object
/// or array stays on its line, every other item gets one of its own.
pub fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut chars = json.chars().peekable();
    let mut in_string = false;
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str("  "));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            match c {
                '\\' => out.extend(chars.next()),
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_get_lines() {
        assert_eq!(
            indent(r#"{"a":[],"b{":[1,{"c":"x\",:[]"},{}],"d":null}"#),
            "{\n  \"a\": [],\n  \"b{\": [\n    1,\n    {\n      \"c\": \"x\\\",:[]\"\n    },\n    {}\n  ],\n  \
             \"d\": null\n}"
        );
        assert_eq!(indent("[]"), "[]");
        assert_eq!(indent(r#""a:b""#), r#""a:b""#);
    }
}
