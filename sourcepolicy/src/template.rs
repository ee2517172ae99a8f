/// A part of what matched, as a template names it.
pub(crate) enum Group<'a> {
    /// By number; 0 is all of it.
    Number(usize),
    /// By name.
    Name(&'a str),
}

/// Appends a template with its `$1`, `${1}` and `${name}` replaced by groups; those that there are not are empty, `$$`
/// is a dollar sign. A name without braces is as long as possible.
///
/// Gives up when `out` gets longer than `limit`.
pub(crate) fn expand<'t>(
    out: &mut Vec<u8>,
    template: &str,
    group: impl Fn(Group<'_>) -> Option<&'t [u8]>,
    limit: usize,
) -> Option<()> {
    let mut add = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        (out.len() <= limit).then_some(())
    };
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('$') {
        add(text.as_bytes())?;
        if let Some(after) = after.strip_prefix('$') {
            add(b"$")?;
            rest = after;
        } else if let Some((name, after)) = name(after) {
            add(group(of_name(name)).unwrap_or_default())?;
            rest = after;
        } else {
            add(b"$")?;
            rest = after;
        }
    }
    add(rest.as_bytes())
}

/// The name at the start of a text, with or without braces, and what comes after it.
fn name(text: &str) -> Option<(&str, &str)> {
    let (text, has_brace) = text.strip_prefix('{').map_or((text, false), |text| (text, true));
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let after = if has_brace { after.strip_prefix('}')? } else { after };
    (!name.is_empty()).then_some((name, after))
}

fn of_name(name: &str) -> Group<'_> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    match name.parse() {
        Ok(number) if is_number => Group::Number(number),
        _ => Group::Name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_the_place_of_their_names() {
        let group = |group: Group<'_>| match group {
            Group::Number(0) => Some(&b"ab"[..]),
            Group::Number(1) => Some(&b"a"[..]),
            Group::Name("b") => Some(&b"b"[..]),
            _ => None,
        };
        for (template, want) in [
            ("", ""),
            ("x", "x"),
            ("$1-${1}-$0", "a-a-ab"),
            ("$1x", ""),
            ("${1}x", "ax"),
            ("$b/${b}/$c", "b/b/"),
            ("$$1", "$1"),
            ("$", "$"),
            ("${1", "${1"),
            ("${}", "${}"),
            ("${1-2}", "${1-2}"),
            ("$-$1", "$-a"),
            ("${01}${99999999999999999999999}", ""),
        ] {
            let mut out = Vec::new();
            expand(&mut out, template, group, 100).expect("short");
            assert_eq!(String::from_utf8_lossy(&out), want, "{template}");
        }
        assert!(expand(&mut Vec::new(), "$0$0$0", group, 5).is_none());
    }
}
