use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use buildkit_util_fsutil_types::Stat;

use crate::{Error, mode};

/// Longest path that is accepted, in bytes: what the kernel can look up.
const MAX_PATH: usize = 4095;
/// Longest name, in bytes.
const MAX_NAME: usize = 255;

/// The order of the protocol: component by component, so `a/b` comes before `a-b`.
pub fn compare_paths(first: &str, second: &str) -> Ordering {
    // The separator is the lowest byte.
    let key = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    first.bytes().map(key).cmp(second.bytes().map(key))
}

/// Checks the paths of a stream: clean, relative, in order, each in a directory that came before.
#[derive(Debug, Default)]
pub struct Validator {
    /// The directories around the last entry, outermost first, each with the last name seen in it.
    /// The root has the empty path and is not in the list.
    dirs: Vec<(String, String)>,
    last_in_root: String,
}

impl Validator {
    /// Checks the next entry.
    ///
    /// # Errors
    /// [`Error::Protocol`] when it must not come, or not here.
    pub fn check(&mut self, stat: &Stat) -> Result<(), Error> {
        let path = stat.path.as_str();
        let shown = || path.chars().take(200).collect::<String>();
        let refuse = |what: &str| Err(Error::Protocol(format!("{what} {}: invalid argument", shown())));
        if path.contains('\0') || stat.linkname.contains('\0') {
            return refuse("NUL in path");
        }
        if path.starts_with('/') {
            return refuse("absolute path");
        }
        if path == ".." || path.starts_with("../") {
            return refuse("escape check");
        }
        if path.len() > MAX_PATH || stat.linkname.len() > MAX_PATH {
            return refuse("path too long");
        }
        for name in path.split('/') {
            if matches!(name, "" | "." | "..") {
                return refuse("unclean path");
            }
            if name.len() > MAX_NAME {
                return refuse("name too long");
            }
        }
        let (dir, name) = crate::confine::split(path);
        while let Some((open, _)) = self.dirs.last() {
            if open == dir || dir.strip_prefix(open.as_str()).is_some_and(|r| r.starts_with('/')) {
                break;
            }
            self.dirs.pop();
        }
        let (open, last) = match self.dirs.last_mut() {
            Some((open, last)) => (open.as_str(), last),
            None => ("", &mut self.last_in_root),
        };
        if open != dir || last.as_str() >= name {
            let before = if open.is_empty() { last.clone() } else { format!("{open}/{last}") };
            return Err(Error::Protocol(format!("changes out of order: {:?} {before:?}", shown())));
        }
        name.clone_into(last);
        if mode::is_dir(stat.mode) {
            self.dirs.push((path.to_owned(), String::new()));
        }
        Ok(())
    }
}

/// Checks that hard links lead to files that came before them.
#[derive(Debug, Default)]
pub struct HardlinkCheck {
    files: HashSet<String>,
}

impl HardlinkCheck {
    /// Checks the next entry.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a link to something that did not come.
    pub fn check(&mut self, stat: &Stat) -> Result<(), Error> {
        if mode::is_dir(stat.mode) || mode::is_symlink(stat.mode) {
            return Ok(());
        }
        if stat.linkname.is_empty() {
            self.files.insert(stat.path.clone());
        } else if !self.files.contains(&stat.linkname) {
            return Err(Error::Protocol(format!(
                "invalid link {} to unknown path: {:?}",
                stat.path, stat.linkname
            )));
        }
        Ok(())
    }
}

/// Repairs hard links of a filtered tree: when the first name of a file was left out, the next one
/// becomes the file and the others links to it.
#[derive(Debug, Default)]
pub struct HardlinkReset {
    /// What the names of files are known as now.
    known: HashMap<String, Option<String>>,
}

impl HardlinkReset {
    /// Repairs the next entry.
    pub fn apply(&mut self, stat: &mut Stat) {
        if mode::is_dir(stat.mode) || mode::is_symlink(stat.mode) {
            return;
        }
        if !stat.linkname.is_empty() {
            match self.known.get(&stat.linkname) {
                Some(None) => {}
                Some(Some(now)) => {
                    if *now == stat.path {
                        stat.linkname.clear();
                    } else {
                        stat.linkname.clone_from(now);
                    }
                }
                None => {
                    self.known.insert(std::mem::take(&mut stat.linkname), Some(stat.path.clone()));
                }
            }
        }
        if stat.linkname.is_empty() {
            self.known.insert(stat.path.clone(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str) -> Stat {
        Stat { path: path.to_owned(), ..Stat::default() }
    }

    fn dir(path: &str) -> Stat {
        Stat { path: path.to_owned(), mode: mode::DIR, ..Stat::default() }
    }

    fn link(path: &str, target: &str) -> Stat {
        Stat { path: path.to_owned(), linkname: target.to_owned(), ..Stat::default() }
    }

    fn check(entries: &[Stat]) -> Result<(), String> {
        let mut validator = Validator::default();
        entries.iter().try_for_each(|stat| validator.check(stat)).map_err(|error| error.to_string())
    }

    #[test]
    fn order_of_the_protocol() {
        for (first, second, expect) in [
            ("a", "b", Ordering::Less),
            ("a/b", "a-b", Ordering::Less),
            ("a", "a/b", Ordering::Less),
            ("a\u{1}", "a/b", Ordering::Greater),
            ("a", "a", Ordering::Equal),
        ] {
            assert_eq!(compare_paths(first, second), expect, "{first:?} {second:?}");
        }
    }

    #[test]
    fn accepts_trees_in_order() {
        let entries =
            [dir("a"), file("a/b"), dir("a/c"), file("a/c/x"), file("a/d"), file("a-b"), file("b\\c")];
        check(&entries).expect("is in order");
        // `..x` is a name like others.
        check(&[dir("..x"), file("..x/y")]).expect("is a name");
    }

    #[test]
    fn a1_17_hostile_paths_are_refused() {
        let long = "a".repeat(5000);
        for bad in ["..", ".", "", "a//b", "a/./b", "a/../b", "../x", "/a", "a/", "a\0b", &long, "a/.."] {
            for first in [file(bad), dir(bad)] {
                assert!(check(&[dir("a"), first]).is_err(), "{bad:?}");
            }
        }
        assert!(check(&[file("b"), file("a")]).is_err());
        assert!(check(&[file("a"), file("a")]).is_err());
        assert!(check(&[dir("a"), dir("a")]).is_err());
        assert!(check(&[file("a/b"), dir("a")]).is_err());
        assert!(check(&[file("a"), file("a/b")]).is_err());
        assert!(check(&[dir("a"), file("b"), file("a/b")]).is_err());
        let mut deep = Vec::new();
        for depth in 1..3_000 {
            deep.push(dir(&vec!["d"; depth].join("/")));
        }
        assert!(check(&deep).is_err());
        assert!(check(&[dir(&vec!["d"; 10_000].join("/"))]).is_err());
        // Here a backslash is a byte of a name like any other: it leads nowhere.
        check(&[dir("..\\"), file("..\\..\\x"), file("C:\\x"), file("\\"), file("\\\\host\\x")])
            .expect("names");
    }

    #[test]
    fn links_follow_what_is_left() {
        let mut check = HardlinkCheck::default();
        check.check(&file("a")).expect("a file");
        check.check(&link("b", "a")).expect("came before");
        assert!(check.check(&link("c", "b")).is_err());
        let mut reset = HardlinkReset::default();
        let mut apply = |mut stat: Stat| {
            reset.apply(&mut stat);
            stat.linkname
        };
        // `x` was filtered out.
        assert_eq!(apply(link("y", "x")), "");
        assert_eq!(apply(link("z", "x")), "y");
        assert_eq!(apply(file("zz")), "");
        assert_eq!(apply(link("zzz", "zz")), "zz");
    }

    /// Any sequence of paths: what is accepted is sorted, unique and inside.
    fn fuzz_stream(paths: &[(String, bool)]) {
        let mut validator = Validator::default();
        let mut dirs = HashSet::from([String::new()]);
        let mut last: Option<String> = None;
        for (path, is_dir) in paths {
            let stat = if *is_dir { dir(path) } else { file(path) };
            if validator.check(&stat).is_err() {
                return;
            }
            assert!(!path.split('/').any(|name| matches!(name, "" | "." | "..")));
            assert!(dirs.contains(crate::confine::split(path).0));
            if let Some(last) = &last {
                assert_eq!(compare_paths(last, path), Ordering::Less);
            }
            if *is_dir {
                dirs.insert(path.clone());
            }
            last = Some(path.clone());
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_in_order(paths in prop::collection::vec(("[ab./-]{0,5}", any::<bool>()), 0..8)) {
            fuzz_stream(&paths);
        }
    }
}
