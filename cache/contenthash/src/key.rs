//! Paths and the keys that records are sorted by.
//!
//! A key is a cleaned absolute path with NUL bytes for slashes, so that a directory's content sorts
//! right behind it and before `name-x`. The root is empty; the key of a directory's header ends in
//! NUL.

/// A cleaned absolute path, empty for the root.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len() + 1);
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            part => {
                out.push(b'/');
                out.extend_from_slice(part);
            }
        }
    }
    out
}

pub(crate) fn join(base: &[u8], part: &[u8]) -> Vec<u8> {
    clean(&[base, b"/", part].concat())
}

pub(crate) fn of_path(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect()
}

pub(crate) fn to_path(key: &[u8]) -> Vec<u8> {
    key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect()
}

/// The key of the header of the directory with a key.
pub(crate) fn header(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The directory that an entry's key is in; `None` for the root.
pub(crate) fn parent(key: &[u8]) -> Option<&[u8]> {
    key.iter().rposition(|&byte| byte == 0).map(|at| &key[..at])
}

/// The last component of a path as Go's `path.Base` has it.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    if path.is_empty() {
        return b".";
    }
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    if end == 0 {
        return b"/";
    }
    let start = path[..end].iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    &path[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_cannot_leave() {
        for (path, expected) in [
            ("", ""),
            ("/", ""),
            (".", ""),
            ("..", ""),
            ("a", "/a"),
            ("/a/../..//b/./c/", "/b/c"),
            ("a/..", ""),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        assert_eq!(join(b"/a", b".."), b"");
        assert_eq!(of_path(b"/a/b"), b"\0a\0b");
        assert_eq!(to_path(b"\0a\0"), b"/a/");
        assert_eq!(parent(b"\0a\0b"), Some(&b"\0a"[..]));
        assert_eq!(parent(b"\0a"), Some(&b""[..]));
        assert_eq!(parent(b""), None);
        for (path, expected) in [("", "."), ("/", "/"), ("//", "/"), ("a/b/", "b"), ("/x", "x")] {
            assert_eq!(base(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
