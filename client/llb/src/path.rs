//! Slash-separated paths as strings: what is written into ops must not depend on this machine.

pub(crate) use buildkit_util_gopath::{clean, join};

/// An absolute, clean path; a relative one counts from `parent`. With `keep_slash` a trailing `/` or
/// `/.`, which tells copies to go into a directory, is kept.
pub(crate) fn normalize(parent: &str, path: &str, keep_slash: bool) -> String {
    let mut out = clean(path);
    if !out.starts_with('/') {
        out = join(["/", parent, &out]);
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
