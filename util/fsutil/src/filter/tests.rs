use std::collections::BTreeMap;

use super::*;
use crate::{StaticFs, walk_all};

/// A directory on disk with these paths: names that end with a slash are directories, `a -> b` is a
/// symbolic link.
fn tree(paths: &[&str]) -> (tempfile::TempDir, Arc<dyn FileSystem>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    for path in paths {
        if let Some((link, target)) = path.split_once(" -> ") {
            std::os::unix::fs::symlink(target, dir.path().join(link)).expect("link");
        } else if let Some(path) = path.strip_suffix('/') {
            std::fs::create_dir_all(dir.path().join(path)).expect("directory");
        } else {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("is inside")).expect("directory");
            std::fs::write(path, "x").expect("file");
        }
    }
    let fs = Arc::new(crate::DirFs::open(dir.path()).expect("opens"));
    (dir, fs)
}

fn shown(fs: &dyn FileSystem) -> Vec<String> {
    let mut paths = Vec::new();
    walk_all(fs, |stat| {
        paths.push(stat.path);
        Ok(())
    })
    .expect("walks");
    paths
}

fn filtered(fs: &Arc<dyn FileSystem>, options: FilterOptions) -> Vec<String> {
    shown(&FilterFs::new(fs.clone(), &options).expect("good patterns"))
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

#[test]
fn walks_in_the_order_of_the_protocol() {
    let (_dir, fs) = tree(&["a/b/c", "a-b", "a/z", "b", "empty/"]);
    assert_eq!(shown(fs.as_ref()), ["a", "a/b", "a/b/c", "a/z", "a-b", "b", "empty"]);
}

#[test]
fn patterns() {
    let (_dir, fs) = tree(&["bar", "foo/bar", "foo/baz/x", "foo/qux", "lib/a/c/file", "lib/a/d"]);
    for (include, exclude, expect) in [
        (&["bar"][..], &[][..], &["bar"][..]),
        (&["foo/bar"], &[], &["foo", "foo/bar"]),
        (&["foo/*", "!foo/bar"], &[], &["foo", "foo/baz", "foo/baz/x", "foo/qux"]),
        (&[], &["foo"], &["bar", "lib", "lib/a", "lib/a/c", "lib/a/c/file", "lib/a/d"]),
        (&[], &["*", "!foo/baz"], &["foo", "foo/baz", "foo/baz/x"]),
        (&[], &["*", "!bar"], &["bar"]),
        (&["**/c"], &[], &["lib", "lib/a", "lib/a/c", "lib/a/c/file"]),
        (&["foo"], &["foo/b*"], &["foo", "foo/qux"]),
        (&["nothing"], &[], &[]),
        (&["foo/**"], &["**/x"], &["foo", "foo/bar", "foo/baz", "foo/qux"]),
    ] {
        let options = FilterOptions {
            include: strings(include),
            exclude: strings(exclude),
            ..FilterOptions::default()
        };
        assert_eq!(filtered(&fs, options), expect, "{include:?} {exclude:?}");
    }
}

#[test]
fn malformed_patterns_are_named() {
    let (_dir, fs) = tree(&[]);
    let options = FilterOptions { exclude: strings(&["a", "["]), ..FilterOptions::default() };
    let error = FilterFs::new(fs, &options).err().expect("is malformed");
    assert_eq!(error.to_string(), "invalid excludepatterns: [a []: syntax error in pattern");
}

#[test]
fn map_changes_and_drops() {
    let (_dir, fs) = tree(&["a/x", "b/x", "c"]);
    let options = FilterOptions {
        map: Some(Arc::new(|path, stat: &mut Stat| {
            stat.uid = 42;
            match path {
                "a" => MapResult::SkipDir,
                "b" => MapResult::Exclude,
                _ => MapResult::Keep,
            }
        })),
        ..FilterOptions::default()
    };
    let fs = FilterFs::new(fs, &options).expect("no patterns");
    let mut seen = BTreeMap::new();
    walk_all(&fs, |stat| {
        seen.insert(stat.path, stat.uid);
        Ok(())
    })
    .expect("walks");
    assert_eq!(seen, BTreeMap::from([("b/x".to_owned(), 42), ("c".to_owned(), 42)]));
}

#[test]
fn links_are_followed() {
    let (_dir, fs) = tree(&[
        "dir/real",
        "other",
        "link -> dir/sub",
        "dir/sub -> ../other",
        "abs -> /dir",
        "loop -> loop",
        "escape -> ../../../other",
        "l1 -> l2",
        "l2 -> dir/real",
    ]);
    for (paths, expect) in [
        (&["other"][..], Some(&["other"][..])),
        (&["link"], Some(&["dir/sub", "link", "other"])),
        (&["abs/real"], Some(&["abs", "dir/real"])),
        (&["loop"], Some(&["loop"])),
        (&["escape"], Some(&["escape", "other"])),
        (&["l1"], Some(&["dir/real", "l1", "l2"])),
        (&["l*"], Some(&["dir/real", "dir/sub", "l*", "l2", "loop", "other"])),
        (&["missing/x"], Some(&["missing/x"])),
        (&["/"], None),
        (&["dir", "dir/real"], Some(&["dir"])),
    ] {
        let found = follow_links(fs.as_ref(), &strings(paths)).expect("follows");
        let found = found.as_ref().map(|paths| paths.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expect, "{paths:?}");
    }
    let options = FilterOptions { follow_paths: Some(strings(&["l1"])), ..FilterOptions::default() };
    assert_eq!(filtered(&fs, options), ["dir", "dir/real", "l1", "l2"]);
}

#[test]
fn trees_are_put_together() {
    let (_dir, lower) = tree(&["a/x", "b", "d/y"]);
    let mut extra = StaticFs::new();
    extra.add("c", Stat { mode: 0o600, ..Stat::default() }, "new");
    extra.add("d", Stat { mode: 0o600, ..Stat::default() }, "instead");
    let merged: Arc<dyn FileSystem> = Arc::new(crate::MergeFs::new(lower, Arc::new(extra)));
    assert_eq!(shown(merged.as_ref()), ["a", "a/x", "b", "c", "d"]);
    let dir = |name: &str| Stat { path: name.to_owned(), mode: mode::DIR | 0o755, ..Stat::default() };
    let parts = vec![
        crate::Dir { stat: dir("two"), fs: merged.clone() },
        crate::Dir { stat: dir("one"), fs: Arc::new(StaticFs::new()) },
    ];
    let sub = crate::SubDirFs::new(parts).expect("names");
    assert_eq!(shown(&sub), ["one", "two", "two/a", "two/a/x", "two/b", "two/c", "two/d"]);
    let mut text = String::new();
    sub.open("two/d").expect("is there").read_to_string(&mut text).expect("reads");
    assert_eq!(text, "instead");
    assert!(crate::SubDirFs::new(vec![crate::Dir { stat: dir("a/b"), fs: merged }]).is_err());
}
