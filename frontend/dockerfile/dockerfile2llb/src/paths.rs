//! Paths as Dockerfiles for Linux and Windows have them. What comes out has slashes and no drive letter.

use buildkit_util_gopath::{clean, is_abs, join};
use buildkit_util_gotext::quoted;

use crate::{Error, Result};

const WINDOWS: &str = "windows";

/// Where programs are looked for when an image does not say so.
pub(crate) fn default_path(os: &str) -> &'static str {
    if os == WINDOWS {
        "c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0"
    } else {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    }
}

pub(crate) fn to_slash(path: &str, os: &str) -> String {
    if os == WINDOWS { path.replace('\\', "/") } else { path.to_owned() }
}

/// An absolute path; a relative one counts from `parent`. With `keep_slash` a trailing `/` or `/.`, which tells
/// copies to go into a directory, is kept.
pub(crate) fn normalize(parent: &str, path: &str, os: &str, keep_slash: bool) -> Result<String> {
    let original = to_slash(path, os);
    let parent = to_slash(parent, os);
    let parent = if parent.is_empty() { "/".to_owned() } else { parent };
    let drive = |error: Error| error.context("removing drive letter");
    let mut parent = without_drive(&parent, os, keep_slash).map_err(drive)?;
    if !is_abs(&parent) {
        parent = join(["/", &parent]);
    }
    let path = if original.is_empty() { parent.clone() } else { original.clone() };
    let mut path = without_drive(&path, os, keep_slash).map_err(drive)?;
    if !is_abs(&path) {
        path = join([&parent, &path]);
    }
    if keep_slash {
        if original.ends_with('/') && !path.ends_with('/') {
            path.push('/');
        } else if original.ends_with("/.") {
            if path != "/" {
                path.push('/');
            }
            path.push('.');
        }
    }
    Ok(path)
}

/// The working directory after `WORKDIR path`, in the form of the platform.
pub(crate) fn working_dir(current: &str, path: &str, os: &str) -> Result<String> {
    let path = normalize(current, path, os, false)
        .map_err(|error| error.context("normalizing working directory"))?;
    Ok(if os == WINDOWS { path.replace('/', "\\") } else { path })
}

pub(crate) fn is_absolute(path: &str, os: &str) -> bool {
    without_drive(path, os, false).is_ok_and(|path| is_abs(&path))
}

/// A path of Windows without its drive, which can be the system's only; one of another platform as it is.
pub(crate) fn without_drive(path: &str, os: &str, keep_slash: bool) -> Result<String> {
    if os != WINDOWS {
        return Ok(path.to_owned());
    }
    if path.len() == 2 && path.ends_with(':') {
        return Err(Error::invalid(format!("No relative path specified in {}", quoted(path))));
    }
    if to_slash(path, os).starts_with("//") {
        return Err(Error::invalid("UNC paths are not supported"));
    }
    let path = match path.split_once(':') {
        None => path,
        Some((drive, path)) if drive.eq_ignore_ascii_case("c") => path,
        Some(_) => return Err(Error::invalid("The specified path is not on the system drive (C:)")),
    };
    let path = to_slash(path, os);
    let mut cleaned = clean(&path);
    if keep_slash && cleaned.len() > 1 && path.ends_with('/') {
        cleaned.push('/');
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_both_platforms() {
        for (parent, path, os, keep, want) in [
            ("/w", "a/", "linux", true, "/w/a/"),
            ("/w", "a/.", "linux", true, "/w/a/."),
            ("/w", "./", "linux", true, "/w/"),
            ("", "", "linux", false, "/"),
            ("/w", "../x", "linux", false, "/x"),
            ("/", "/a//b", "linux", false, "/a//b"),
            ("C:\\w", "a\\b", "windows", false, "/w/a/b"),
            ("/", "c:\\x\\", "windows", true, "/x/"),
        ] {
            assert_eq!(normalize(parent, path, os, keep).unwrap(), want, "{parent} {path}");
        }
        for path in ["C:", "\\\\host\\share", "D:\\x"] {
            assert!(normalize("/", path, "windows", false).is_err(), "{path}");
        }
        assert_eq!(working_dir("/w", "x", "windows").unwrap(), "\\w\\x");
        assert!(
            is_absolute("C:\\x", "windows") && !is_absolute("C:x", "windows") && !is_absolute("C:/", "linux")
        );
    }
}
