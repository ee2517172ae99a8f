//! Path arithmetic on text as Go does it.
//!
//! The rules are those of Go's `path/filepath` on Unix, which the wire formats and cache keys assume.
//! Nothing here looks at a file system.
#![forbid(unsafe_code)]

/// The shortest path that means the same when no component is a symbolic link: no empty or `.`
/// component, no `..` but leading ones of a relative path. The empty path is `.`.
pub fn clean(path: &str) -> String {
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
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The parts with `/` between them, cleaned. Empty parts are left out; no part at all is the empty
/// path, not `.`.
pub fn join<I, S>(parts: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let mut joined = String::new();
    for part in parts {
        let part = part.as_ref();
        if part.is_empty() {
            continue;
        }
        if !joined.is_empty() {
            joined.push('/');
        }
        joined.push_str(part);
    }
    if joined.is_empty() { joined } else { clean(&joined) }
}

/// The last component; `.` for the empty path, `/` when there are only slashes.
pub fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return "/";
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// All but the last component, cleaned. With a trailing slash the last component is empty.
pub fn dir(path: &str) -> String {
    match path.rfind('/') {
        Some(slash) => clean(&path[..=slash]),
        None => ".".to_owned(),
    }
}

/// What is before and after the last slash; the first part keeps the slash.
pub fn split(path: &str) -> (&str, &str) {
    path.rfind('/').map_or(("", path), |slash| path.split_at(slash + 1))
}

/// The suffix of the last component from its last `.` on, or nothing.
pub fn ext(path: &str) -> &str {
    let name = split(path).1;
    name.rfind('.').map_or("", |dot| &name[dot..])
}

/// Whether the path starts at the root.
pub fn is_abs(path: &str) -> bool {
    path.starts_with('/')
}

/// A relative path that leads from `from` to `to`, or `None` when only the working directory could
/// tell: one is absolute and the other is not, or `from` climbs above where `to` starts.
pub fn rel(from: &str, to: &str) -> Option<String> {
    let (from, to) = (clean(from), clean(to));
    if from == to {
        return Some(".".to_owned());
    }
    if is_abs(&from) != is_abs(&to) {
        return None;
    }
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect()
    };
    let (from, to) = (parts(&from), parts(&to));
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if from.get(common).is_some_and(|part| part == "..") {
        return None;
    }
    let up = std::iter::repeat_n("..", from.len() - common);
    Some(up.chain(to[common..].iter().map(String::as_str)).collect::<Vec<_>>().join("/"))
}

/// `path` as seen from the root: absolute and clean, so that no `..` is left.
pub fn rooted(path: &str) -> String {
    clean(&format!("/{path}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clean_table() {
        for (input, expect) in [
            ("", "."),
            ("abc", "abc"),
            ("abc/def", "abc/def"),
            ("/", "/"),
            ("//", "/"),
            ("///abc", "/abc"),
            ("abc//def//ghi", "abc/def/ghi"),
            ("abc/", "abc"),
            ("./", "."),
            ("..", ".."),
            ("../../abc", "../../abc"),
            ("/..", "/"),
            ("/../abc", "/abc"),
            ("abc/../../././../def", "../../def"),
            ("abc/def/ghi/../jkl", "abc/def/jkl"),
            ("abc/./../def", "def"),
            ("**/", "**"),
        ] {
            assert_eq!(clean(input), expect, "{input:?}");
        }
    }

    #[test]
    fn join_base_dir_ext() {
        assert_eq!(join(["a", "", "b/../c", "/d"]), "a/c/d");
        assert_eq!(join(["", ""]), "");
        assert_eq!(join(["/", "../x"]), "/x");
        for (path, expect_base, expect_dir) in [
            ("", ".", "."),
            ("/", "/", "/"),
            ("a", "a", "."),
            ("a/b", "b", "a"),
            ("a/b/", "b", "a/b"),
            ("/a", "a", "/"),
            ("//a//b//", "b", "/a/b"),
            ("a/../b", "b", "."),
        ] {
            assert_eq!(base(path), expect_base, "base {path:?}");
            assert_eq!(dir(path), expect_dir, "dir {path:?}");
        }
        assert_eq!(ext("a.b/c.tar.gz"), ".gz");
        assert_eq!(ext("a.b/c"), "");
    }

    #[test]
    fn rel_table() {
        for (from, to, expect) in [
            ("a/b", "a/b/c", Some("c")),
            ("a/b", "a/b", Some(".")),
            ("a/b", "a/c", Some("../c")),
            ("a/b/c", "a", Some("../..")),
            (".", "a/b", Some("a/b")),
            ("/", "/a", Some("a")),
            ("/a", "/", Some("..")),
            ("..", ".", None),
            ("..", "a", None),
            ("/a", "a", None),
            ("../a", "../b", Some("../b")),
            ("a/b", "..", Some("../../..")),
        ] {
            assert_eq!(rel(from, to).as_deref(), expect, "{from:?} {to:?}");
        }
    }

    proptest! {
        #[test]
        fn clean_is_idempotent_and_rooted_has_no_parent(path in "[a./]{0,12}") {
            let once = clean(&path);
            prop_assert_eq!(clean(&once), once.clone());
            let has_parent = rooted(&path).split('/').any(|p| p == "..");
            prop_assert!(!has_parent);
        }

        #[test]
        fn rel_leads_there(from in "(/[ab]){0,4}", to in "(/[ab]){0,4}") {
            let (from, to) = (rooted(&from), rooted(&to));
            let way = rel(&from, &to).expect("both absolute");
            prop_assert_eq!(join([from, way]), to);
        }
    }
}
