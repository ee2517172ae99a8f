//! Copies between two temporary roots.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use buildkit_util_fsutil_copy::{CopyOptions, Error, Owner, SharedFiles, copy, make_dirs, resolve_wildcards};
use buildkit_util_system::{Root, Timestamp};

struct Pair {
    src: tempfile::TempDir,
    dst: tempfile::TempDir,
}

/// A source with these paths: names that end with a slash are directories, `a -> b` is a link.
fn pair(paths: &[&str]) -> Pair {
    assert!(rustix::process::geteuid().is_root(), "needs root to change owners");
    let new = || tempfile::tempdir().expect("temporary directory");
    let pair = Pair { src: new(), dst: new() };
    fill(pair.src.path(), paths);
    pair
}

fn fill(root: &Path, paths: &[&str]) {
    for path in paths {
        if let Some((link, target)) = path.split_once(" -> ") {
            symlink(target, root.join(link)).expect("link");
        } else if let Some(path) = path.strip_suffix('/') {
            std::fs::create_dir_all(root.join(path)).expect("directory");
        } else {
            let at = root.join(path);
            std::fs::create_dir_all(at.parent().expect("is inside")).expect("directory");
            std::fs::write(at, path).expect("file");
        }
    }
}

impl Pair {
    fn copy(&self, src: &str, dst: &str, options: &CopyOptions) -> Result<(), Error> {
        let open = |dir: &tempfile::TempDir| Root::open(dir.path()).expect("opens");
        copy(&open(&self.src), src, &open(&self.dst), dst, options)
    }

    fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut todo = vec![self.dst.path().to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).expect("reads") {
                let path = entry.expect("reads").path();
                let name = path.strip_prefix(self.dst.path()).expect("is inside").display().to_string();
                if path.is_dir() && !path.is_symlink() {
                    found.push(format!("{name}/"));
                    todo.push(path);
                } else {
                    found.push(name);
                }
            }
        }
        found.sort();
        found
    }
}

fn contents() -> CopyOptions {
    CopyOptions { copy_dir_contents: true, ..CopyOptions::default() }
}

fn wildcards() -> CopyOptions {
    CopyOptions { allow_wildcards: true, ..CopyOptions::default() }
}

fn patterns(include: &[&str], exclude: &[&str]) -> CopyOptions {
    let strings = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
    CopyOptions { include: strings(include), exclude: strings(exclude), ..contents() }
}

#[test]
fn names_of_copies() {
    let tree = &["f", "d/x", "d/e/y", "g1", "g2"];
    for (existing, src, dst, options, expect) in [
        (&[][..], "f", "new", CopyOptions::default(), &["new"][..]),
        (&[], "f", "new/", CopyOptions::default(), &["new/", "new/f"]),
        (&[], "f", "a/b/c", CopyOptions::default(), &["a/", "a/b/", "a/b/c"]),
        (&["to/"], "f", "to", CopyOptions::default(), &["to/", "to/f"]),
        (&["to"], "f", "to", CopyOptions::default(), &["to"]),
        (&[], "d", "new", CopyOptions::default(), &["new/", "new/e/", "new/e/y", "new/x"]),
        (&["to/"], "d", "to", CopyOptions::default(), &["to/", "to/d/", "to/d/e/", "to/d/e/y", "to/d/x"]),
        (&["to/"], "d", "to", contents(), &["to/", "to/e/", "to/e/y", "to/x"]),
        (&[], "d", "/", contents(), &["e/", "e/y", "x"]),
        (&[], "g*", "/to/", wildcards(), &["to/", "to/g1", "to/g2"]),
        (&[], "d/*", "/", wildcards(), &["e/", "e/y", "x"]),
        (
            &[],
            "/",
            "to",
            contents(),
            &["to/", "to/d/", "to/d/e/", "to/d/e/y", "to/d/x", "to/f", "to/g1", "to/g2"],
        ),
        (&[], "../../f", "../../new", CopyOptions::default(), &["new"]),
    ] {
        let pair = pair(tree);
        fill(pair.dst.path(), existing);
        pair.copy(src, dst, &options).expect("copies");
        assert_eq!(pair.listing(), expect, "{existing:?} {src} {dst}");
    }
}

#[test]
fn filters() {
    let tree = &["bar", "a/b/c", "a/b/d", "a/e", "z/"];
    for (include, exclude, expect) in [
        (&["a/b/c"][..], &[][..], &["a/", "a/b/", "a/b/c"][..]),
        (&["a/*/c"], &[], &["a/", "a/b/", "a/b/c"]),
        (&["**/d"], &[], &["a/", "a/b/", "a/b/d"]),
        (&[], &["a"], &["bar", "z/"]),
        (&[], &["a", "!a/e"], &["a/", "a/e", "bar", "z/"]),
        (&["a"], &["a/b"], &["a/", "a/e"]),
        (&["nothing"], &[], &[]),
    ] {
        let pair = pair(tree);
        pair.copy("/", "/", &patterns(include, exclude)).expect("copies");
        assert_eq!(pair.listing(), expect, "{include:?} {exclude:?}");
    }
}

#[test]
fn attributes() {
    let pair = pair(&["d/f", "d/g", "d/link -> f"]);
    let at = |path: &str| pair.src.path().join(path);
    std::os::unix::fs::chown(at("d/f"), Some(7), Some(8)).expect("owner");
    std::fs::set_permissions(at("d/f"), PermissionsExt::from_mode(0o4751)).expect("mode");
    std::fs::set_permissions(at("d"), PermissionsExt::from_mode(0o1700)).expect("mode");
    std::fs::hard_link(at("d/g"), at("d/h")).expect("link");
    std::fs::File::create(at("d/sparse")).expect("file").set_len(1 << 40).expect("length");
    rustix::fs::mknodat(rustix::fs::CWD, at("d/fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0)
        .expect("node");
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("d/null"),
        rustix::fs::FileType::CharacterDevice,
        0o666.into(),
        null,
    )
    .expect("node");
    let _socket = std::os::unix::net::UnixListener::bind(at("d/socket")).expect("socket");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at("d/g"), "user.color", b"blue", flags).expect("attribute");
    pair.copy("d", "copy", &CopyOptions::default()).expect("copies");
    let stat = |path: &str| pair.dst.path().join("copy").join(path).symlink_metadata().expect("is there");
    assert_eq!((stat("f").uid(), stat("f").gid(), stat("f").mode() & 0o7777), (7, 8, 0o4751));
    assert_eq!(stat("").mode() & 0o7777, 0o1700);
    assert_eq!(stat("g").ino(), stat("h").ino());
    assert_eq!((stat("sparse").size(), stat("sparse").blocks()), (1 << 40, 0));
    assert!(stat("fifo").file_type().is_fifo() && stat("null").file_type().is_char_device());
    assert!(stat("socket").is_file() && stat("link").is_symlink());
    assert_eq!(stat("null").rdev(), null);
    for path in ["", "f", "link", "fifo"] {
        let source = at("d").join(path).symlink_metadata().expect("is there");
        assert_eq!(
            (stat(path).mtime(), stat(path).mtime_nsec()),
            (source.mtime(), source.mtime_nsec()),
            "{path}"
        );
    }
    let mut value = [0; 16];
    let len = rustix::fs::getxattr(pair.dst.path().join("copy/g"), "user.color", &mut value).expect("is set");
    assert_eq!(&value[..len], b"blue");
}

#[test]
fn attributes_that_are_asked_for() {
    let pair = pair(&["d/f", "d/run"]);
    std::fs::set_permissions(pair.src.path().join("d/run"), PermissionsExt::from_mode(0o700)).expect("mode");
    let options = CopyOptions {
        chown: Some(Arc::new(|_| Some(Owner { uid: 11, gid: 12 }))),
        mode_change: Some("a=rX".parse().expect("well formed")),
        time: Some(Timestamp { seconds: 1000, nanoseconds: 5 }),
        ..CopyOptions::default()
    };
    pair.copy("d", "new/x/d", &options).expect("copies");
    let check = |path: &str, mode: u32| {
        let stat = pair.dst.path().join(path).metadata().expect("is there");
        let found = (stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec(), stat.mode() & 0o7777);
        assert_eq!(found, (11, 12, 1000, 5, mode), "{path}");
    };
    check("new", 0o755);
    check("new/x", 0o755);
    check("new/x/d", 0o555);
    check("new/x/d/f", 0o444);
    check("new/x/d/run", 0o555);
    let options = CopyOptions { mode: Some(0o4711), ..CopyOptions::default() };
    pair.copy("d/f", "set/f", &options).expect("copies");
    let mode = |path: &str| pair.dst.path().join(path).metadata().expect("is there").mode() & 0o7777;
    assert_eq!((mode("set"), mode("set/f")), (0o711, 0o4711));
}

#[test]
fn what_is_in_the_way() {
    let tree = &["f", "d/f"];
    let replace = CopyOptions { always_replace: true, ..contents() };
    let pair = pair(tree);
    fill(pair.dst.path(), &["d", "to/f/x", "link -> /f", "kept/x"]);
    assert!(matches!(pair.copy("d", "d", &contents()), Err(Error::NotDirectory(_)) | Err(Error::Path(_))));
    assert!(matches!(pair.copy("d", "to", &contents()), Err(Error::IsDirectory(_))));
    pair.copy("d", "to", &replace).expect("replaces");
    pair.copy("/", "/", &replace).expect("replaces");
    pair.copy("f", "kept", &replace).expect("copies into");
    assert_eq!(pair.listing(), ["d/", "d/f", "f", "kept/", "kept/f", "kept/x", "link", "to/", "to/f"]);
}

#[test]
fn links_do_not_lead_out() {
    let outside = tempfile::tempdir().expect("temporary directory");
    fill(outside.path(), &["secret", "dir/"]);
    let pair = pair(&["f", "d/f"]);
    let to = |name: &str| outside.path().join(name).display().to_string();
    symlink(to("secret"), pair.src.path().join("file-link")).expect("link");
    symlink(to("dir"), pair.dst.path().join("dir-link")).expect("link");
    symlink(to("secret"), pair.dst.path().join("f")).expect("link");
    let follow = CopyOptions { follow_links: true, ..CopyOptions::default() };
    let error = pair.copy("file-link", "x", &follow).expect_err("leads nowhere inside");
    assert!(error.is_not_found(), "{error}");
    pair.copy("f", "dir-link/deep/f", &CopyOptions::default()).expect("stays inside");
    pair.copy("f", "f", &CopyOptions::default()).expect("stays inside");
    assert_eq!(std::fs::read(outside.path().join("secret")).expect("reads"), b"secret");
    assert_eq!(std::fs::read_dir(outside.path().join("dir")).expect("reads").count(), 0);
    pair.copy("file-link", "as-link", &CopyOptions::default()).expect("copies the link");
    assert!(pair.dst.path().join("as-link").is_symlink());
}

#[test]
fn finds_matches() {
    let pair = pair(&["a1/x.go", "a1/y.txt", "a2/x.go", "b/x.go", "l -> a1", "a1/sub/x.go"]);
    let root = Root::open(pair.src.path()).expect("opens");
    for (pattern, follow, expect) in [
        ("a*", false, &["a1", "a2"][..]),
        ("/a*/x.go", false, &["a1/x.go", "a2/x.go"]),
        ("*/*.go", false, &["a1/x.go", "a2/x.go", "b/x.go"]),
        ("l/*.go", true, &["a1/x.go"]),
        ("none*", false, &[]),
        ("a[12]", false, &["a1", "a2"]),
        ("plain", false, &["plain"]),
        ("b\\*", false, &["b\\*"]),
    ] {
        let found = resolve_wildcards(&root, pattern, follow).expect("reads");
        let found: Vec<_> = found.iter().map(|path| path.to_str().expect("text")).collect();
        assert_eq!(found, expect, "{pattern}");
    }
    assert!(resolve_wildcards(&root, "nowhere/*", false).is_err());
    assert!(matches!(pair.copy("none*", "/", &wildcards()), Err(Error::NoMatch(_))));
}

#[test]
fn deep_trees() {
    let pair = pair(&[]);
    let deep: std::path::PathBuf = std::iter::repeat_n("d", 600).collect();
    std::fs::create_dir_all(pair.src.path().join(&deep)).expect("directories");
    std::fs::write(pair.src.path().join(&deep).join("f"), "x").expect("file");
    pair.copy("/", "/", &patterns(&["**/f"], &[])).expect("copies");
    assert!(pair.dst.path().join(&deep).join("f").is_file());
}

#[test]
fn makes_directories() {
    let pair = pair(&[]);
    let root = Root::open(pair.dst.path()).expect("opens");
    let time = Some(Timestamp { seconds: 99, nanoseconds: 0 });
    let made = make_dirs(&root, "a/b", 0o7750, None, time).expect("makes");
    assert_eq!(made.len(), 2);
    let stat = |path: &str| pair.dst.path().join(path).metadata().expect("is there");
    assert_eq!((stat("a/b").mode() & 0o7777, stat("a/b").mtime()), (0o750, 99));
    // Something was put into it.
    assert_eq!(stat("a").mode() & 0o7777, 0o750);
    assert_ne!(stat("a").mtime(), 99);
    assert!(make_dirs(&root, "a/b", 0o755, None, None).expect("is there").is_empty());
}

#[test]
fn files_that_stay_as_they_are_can_be_shared() {
    let pair = pair(&["a/f", "a/g", "b/x"]);
    std::fs::hard_link(pair.src.path().join("a/g"), pair.src.path().join("a/h")).expect("link");
    let ino = |root: &tempfile::TempDir, path: &str| root.path().join(path).metadata().expect(path).ino();
    let options = CopyOptions { share: Some(Arc::new(SharedFiles::new())), ..CopyOptions::default() };
    pair.copy("/a", "/one", &options).expect("copies");
    for name in ["f", "g", "h"] {
        assert_eq!(ino(&pair.dst, &format!("one/{name}")), ino(&pair.src, &format!("a/{name}")), "{name}");
    }
    // A second name of it in the same tree would be a hard link that nobody asked for.
    pair.copy("/a", "/two", &options).expect("copies");
    for name in ["f", "g", "h"] {
        let (one, two) = (ino(&pair.dst, &format!("one/{name}")), ino(&pair.dst, &format!("two/{name}")));
        assert_ne!(one, two, "{name}");
        assert_eq!(std::fs::read(pair.dst.path().join(format!("two/{name}"))).expect("reads").len(), 3);
    }
    assert_eq!(ino(&pair.dst, "two/g"), ino(&pair.dst, "two/h"));
    // What changes is copied, and the source is left alone.
    let before = pair.src.path().join("b/x").metadata().expect("is there");
    let changes: [CopyOptions; 4] = [
        CopyOptions { mode: Some(0o700), ..CopyOptions::default() },
        CopyOptions { mode_change: Some("a+x".parse().expect("parses")), ..CopyOptions::default() },
        CopyOptions { chown: Some(Arc::new(|_| Some(Owner { uid: 5, gid: 6 }))), ..CopyOptions::default() },
        CopyOptions { time: Some(Timestamp { seconds: 9, nanoseconds: 0 }), ..CopyOptions::default() },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let options = CopyOptions { share: options.share.clone(), ..change };
        pair.copy("/b/x", &format!("/x{number}"), &options).expect("copies");
        assert_ne!(ino(&pair.dst, &format!("x{number}")), before.ino());
    }
    let after = pair.src.path().join("b/x").metadata().expect("is there");
    assert_eq!((before.mode(), before.uid(), before.mtime()), (after.mode(), after.uid(), after.mtime()));
    // One that is replaced leaves its other name alone.
    pair.copy("/b/x", "/one/f", &options).expect("copies");
    assert_eq!(std::fs::read(pair.src.path().join("a/f")).expect("reads"), b"a/f");
    assert_eq!(std::fs::read(pair.dst.path().join("one/f")).expect("reads"), b"b/x");
}
