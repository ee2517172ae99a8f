//! Slash-separated paths as strings: what is written into ops must not depend on this machine.

/// The shortest path that names the same entry, without looking at any file system. An empty path
/// is `.`; `..` at the root of an absolute path is dropped.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            name => parts.push(name),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// All non-empty parts joined by slashes and cleaned; nothing from nothing.
pub(crate) fn join(parts: &[&str]) -> String {
    let joined = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
    if joined.is_empty() { joined } else { clean(&joined) }
}

/// An absolute, clean path; a relative one counts from `parent`. With `keep_slash` a trailing `/` or
/// `/.`, which tells copies to go into a directory, is kept.
pub(crate) fn normalize(parent: &str, path: &str, keep_slash: bool) -> String {
    let mut out = clean(path);
    if !out.starts_with('/') {
        out = join(&["/", parent, &out]);
    }
    if keep_slash {
        if path.ends_with('/') && !out.ends_with('/') {
            out.push('/');
        } else if path.ends_with("/.") {
            if out != "/" {
                out.push('/');
            }
            out.push('.');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning() {
        for (input, expect) in [
            ("", "."),
            ("/", "/"),
            ("a//b/./c/", "a/b/c"),
            ("/../a", "/a"),
            ("../a/..", ".."),
            ("a/../..", ".."),
            ("/a/b/../../..", "/"),
        ] {
            assert_eq!(clean(input), expect, "{input}");
        }
        assert_eq!(join(&["", ""]), "");
        assert_eq!(join(&["/x", "../y"]), "/y");
    }

    #[test]
    fn normalizing() {
        for (parent, path, keep, expect) in [
            ("/w", "a", false, "/w/a"),
            ("/w", "/a/", false, "/a"),
            ("/w", "a/", true, "/w/a/"),
            ("/", "/", true, "/"),
            ("/", "/.", true, "/."),
            ("/w", "a/.", true, "/w/a/."),
            ("", ".", true, "/"),
        ] {
            assert_eq!(normalize(parent, path, keep), expect, "{parent} {path}");
        }
    }
}
