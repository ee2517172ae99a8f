//! File actions on real trees. Needs root: owners are set.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, symlink as link};
use std::path::Path;

use buildkit_solver_llbsolver_file::{Owner, copy, mkdir, mkfile, resolve_owner, rm, symlink};
use buildkit_solver_pb::{self as pb, user_opt::User};
use buildkit_util_system::Root;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tempfile::TempDir;

/// A tree in a directory that has a canary beside it.
struct Tree {
    outer: TempDir,
    root: Root,
}

impl Tree {
    fn new() -> Self {
        let outer = tempfile::tempdir().expect("directory");
        fs::create_dir(outer.path().join("tree")).expect("directory");
        fs::create_dir(outer.path().join("canary")).expect("directory");
        fs::write(outer.path().join("canary/file"), "alive").expect("file");
        let root = Root::open(outer.path().join("tree")).expect("root");
        Self { outer, root }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.outer.path().join("tree").join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("directories");
        fs::write(path, content).expect("file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn check_canary(&self) {
        let canary = self.outer.path().join("canary/file");
        assert_eq!(fs::read_to_string(canary).expect("canary"), "alive");
        assert_eq!(fs::read_dir(self.outer.path()).expect("outer").count(), 2);
    }
}

fn rm_of(path: &str, wildcard: bool) -> pb::FileActionRm {
    pb::FileActionRm { path: path.to_owned(), allow_wildcard: wildcard, allow_not_found: true }
}

fn copy_of(src: &str, dest: &str) -> pb::FileActionCopy {
    pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: -1,
        create_dest_path: true,
        ..pb::FileActionCopy::default()
    }
}

fn mkfile_of(path: &str, data: &str) -> pb::FileActionMkFile {
    pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o640,
        data: data.to_owned().into(),
        timestamp: -1,
        owner: None,
    }
}

#[test]
fn made_files_have_what_was_asked_for() {
    let tree = Tree::new();
    let owner = Some(Owner { uid: 7, gid: 8 });
    let time = 1_600_000_000_500_000_000;
    let action = pb::FileActionMkDir {
        path: "/a/b/c".to_owned(),
        mode: 0o7750,
        make_parents: true,
        timestamp: time,
        owner: None,
    };
    mkdir(&tree.root, &action, owner).expect("makes");
    let meta = fs::metadata(tree.path("a/b/c")).expect("made");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o750, 7, 8));
    assert_eq!(meta.mtime(), 1_600_000_000);
    assert_eq!(fs::metadata(tree.path("a")).expect("made").uid(), 7);
    // One that exists stays.
    let again = pb::FileActionMkDir { mode: 0o700, make_parents: false, ..action };
    mkdir(&tree.root, &again, None).expect("is there");
    assert_eq!(fs::metadata(tree.path("a/b/c")).expect("there").mode() & 0o777, 0o750);
    let orphan = pb::FileActionMkDir { path: "/x/y".to_owned(), ..again };
    let error = mkdir(&tree.root, &orphan, None).expect_err("no parent");
    assert!(error.to_string().ends_with("no such file or directory"), "{error}");

    let file = pb::FileActionMkFile { timestamp: time, ..mkfile_of("/a/f", "one") };
    mkfile(&tree.root, &file, owner).expect("makes");
    let meta = fs::metadata(tree.path("a/f")).expect("made");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime_nsec()), (0o640, 7, 500_000_000));
    mkfile(&tree.root, &mkfile_of("/a/f", "2"), None).expect("writes over");
    assert_eq!(tree.read("a/f"), "2");
    let action = pb::FileActionSymlink {
        oldpath: "../x".to_owned(),
        newpath: "/a/l".to_owned(),
        timestamp: time,
        owner: None,
    };
    symlink(&tree.root, &action, owner).expect("makes");
    let meta = fs::symlink_metadata(tree.path("a/l")).expect("made");
    assert_eq!((meta.uid(), meta.mtime()), (7, 1_600_000_000));
    assert_eq!(fs::read_link(tree.path("a/l")).expect("link"), Path::new("../x"));
    let error = mkfile(&tree.root, &mkfile_of("/a", ""), None).expect_err("a directory");
    assert!(!error.to_string().is_empty());
}

#[test]
fn nothing_is_written_outside() {
    let tree = Tree::new();
    let canary = tree.outer.path().join("canary");
    link(&canary, tree.path("abs")).expect("link");
    link("../canary", tree.path("rel")).expect("link");
    link("../canary/file", tree.path("file")).expect("link");
    for path in ["/abs/new", "/rel/new", "/file", "/../canary/file", "rel/../../canary/x"] {
        // Whether it is made somewhere inside or refused does not matter.
        let _ = mkfile(&tree.root, &mkfile_of(path, "hacked"), None);
        let action = pb::FileActionMkDir {
            path: format!("{path}/d"),
            mode: 0o755,
            make_parents: true,
            timestamp: -1,
            owner: None,
        };
        let _ = mkdir(&tree.root, &action, None);
        let source = Tree::new();
        source.write("f", "hacked");
        let _ = copy(&source.root, &tree.root, &copy_of("/f", path), None);
    }
    tree.check_canary();
}

#[test]
fn removal_stays_inside() {
    for path in ["..", "/..", "a/../..", ".", "/", "*", "../*", "/../../*", "a/../../canary", "abs/*", "abs"]
    {
        for wildcard in [false, true] {
            let tree = Tree::new();
            tree.write("a/f", "1");
            link(tree.outer.path().join("canary"), tree.path("abs")).expect("link");
            let _ = rm(&tree.root, &rm_of(path, wildcard));
            tree.check_canary();
            assert!(tree.path("").is_dir(), "{path}: the root stays");
        }
    }
    let tree = Tree::new();
    let error = rm(&tree.root, &rm_of("/a/..", false)).expect_err("the root");
    assert_eq!(error.to_string(), "rmPath: invalid empty path");
    let missing = pb::FileActionRm { allow_not_found: false, ..rm_of("/nope", false) };
    let error = rm(&tree.root, &missing).expect_err("missing");
    assert_eq!(error.to_string(), "stat /nope: no such file or directory");
    rm(&tree.root, &rm_of("/nope", false)).expect("allowed");
}

#[test]
fn links_are_removed_and_not_what_they_lead_to() {
    let tree = Tree::new();
    tree.write("d/f", "1");
    link("d", tree.path("l")).expect("link");
    rm(&tree.root, &rm_of("/l", false)).expect("removes");
    assert!(!tree.path("l").exists() && tree.path("d/f").exists());
    link("d", tree.path("l")).expect("link");
    rm(&tree.root, &rm_of("/l/f", false)).expect("removes through");
    assert!(!tree.path("d/f").exists());
    for name in ["x1", "x2", "y"] {
        tree.write(name, "");
    }
    rm(&tree.root, &rm_of("/x*", true)).expect("removes");
    assert!(!tree.path("x1").exists() && !tree.path("x2").exists() && tree.path("y").exists());
}

#[test]
fn copies_go_where_they_should() {
    let (source, dest) = (Tree::new(), Tree::new());
    source.write("d/f", "f");
    source.write("d/sub/g.go", "g");
    let owner = Some(Owner { uid: 1, gid: 2 });
    copy(&source.root, &dest.root, &copy_of("/d/f", "/new/name"), owner).expect("copies");
    assert_eq!(dest.read("new/name"), "f");
    assert_eq!(fs::metadata(dest.path("new/name")).expect("made").gid(), 2);
    copy(&source.root, &dest.root, &copy_of("/d/f", "/dir/"), None).expect("copies");
    assert_eq!(dest.read("dir/f"), "f");
    let contents = pb::FileActionCopy { dir_copy_contents: true, ..copy_of("/d", "/dir") };
    copy(&source.root, &dest.root, &contents, None).expect("copies");
    assert_eq!(dest.read("dir/sub/g.go"), "g");
    let filtered = pb::FileActionCopy {
        include_patterns: vec!["**/*.go".to_owned()],
        dir_copy_contents: true,
        mode_str: "u=rwx,go=".to_owned(),
        timestamp: 0,
        ..copy_of("/d", "/filtered")
    };
    copy(&source.root, &dest.root, &filtered, None).expect("copies");
    assert!(!dest.path("filtered/f").exists());
    let meta = fs::metadata(dest.path("filtered/sub/g.go")).expect("copied");
    assert_eq!((meta.mode() & 0o777, meta.mtime()), (0o700, 0));

    let wild = |src: &str, empty| pb::FileActionCopy {
        allow_wildcard: true,
        allow_empty_wildcard: empty,
        ..copy_of(src, "/w/")
    };
    copy(&source.root, &dest.root, &wild("/d/*", false), None).expect("copies");
    assert_eq!(dest.read("w/f"), "f");
    copy(&source.root, &dest.root, &wild("/n*", true), None).expect("nothing to copy");
    let error = copy(&source.root, &dest.root, &wild("/n*", false), None).expect_err("nothing");
    assert_eq!(error.to_string(), "/n* not found");
    let error = copy(&source.root, &dest.root, &copy_of("/n", "/n"), None).expect_err("missing");
    assert!(error.to_string().contains("/n: no such file or directory"), "{error}");
    let no_dest = pb::FileActionCopy { create_dest_path: false, ..copy_of("/d/f", "/no/such/f") };
    let error = copy(&source.root, &dest.root, &no_dest, None).expect_err("no directory");
    assert!(error.to_string().starts_with("failed to stat /no/such/f: "), "{error}");
}

fn named(name: &str) -> Option<pb::UserOpt> {
    let user = User::ByName(pb::NamedUserOpt { name: name.to_owned(), input: 0 });
    Some(pb::UserOpt { user: Some(user) })
}

#[test]
fn owners_come_from_the_files_of_the_tree() {
    let tree = Tree::new();
    tree.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nu:x:10:20::/:/\n");
    tree.write("etc/group", "root:x:0:\ng:x:30:\n");
    let look = |user: &str, group: Option<&str>| {
        let chown = pb::ChownOpt { user: named(user), group: group.and_then(named) };
        let owner = resolve_owner(Some(&chown), Some(&tree.root), Some(&tree.root)).expect("fine");
        owner.map(|owner| (owner.uid, owner.gid)).expect("asked for")
    };
    assert_eq!(look("u", None), (10, 20));
    assert_eq!(look("u", Some("g")), (10, 30));
    assert_eq!(look("nobody-here", Some("none")), (0, 0));
    let id = |id| Some(pb::UserOpt { user: Some(User::ById(id)) });
    let chown = pb::ChownOpt { user: id(5), group: None };
    let owner = resolve_owner(Some(&chown), None, None).expect("fine").expect("asked for");
    assert_eq!((owner.uid, owner.gid), (5, 5));
    let chown = pb::ChownOpt { user: named("u"), group: None };
    assert!(resolve_owner(Some(&chown), None, None).is_err());
    assert!(resolve_owner(None, None, None).expect("fine").is_none());
}

#[test]
fn a1_13_hostile_user_files_are_refused_or_empty() {
    let chown = pb::ChownOpt { user: None, group: named("x") };
    let big = Tree::new();
    fs::create_dir(big.path("etc")).expect("directory");
    let file = fs::File::create(big.path("etc/group")).expect("file");
    file.set_len(8 << 30).expect("sparse");
    let error = resolve_owner(Some(&chown), None, Some(&big.root)).expect_err("too large");
    assert!(error.to_string().contains("exceeds"), "{error}");
    for (kind, device) in [(FileType::Fifo, 0), (FileType::CharacterDevice, makedev(1, 5))] {
        let tree = Tree::new();
        fs::create_dir(tree.path("etc")).expect("directory");
        mknodat(CWD, tree.path("etc/group"), kind, Mode::from_raw_mode(0o644), device)
            .expect("node (needs root)");
        let owner = resolve_owner(Some(&chown), None, Some(&tree.root)).expect("no entries");
        assert_eq!(owner.expect("asked for").gid, 0);
    }
    let looped = Tree::new();
    fs::create_dir(looped.path("etc")).expect("directory");
    link("group", looped.path("etc/group")).expect("link");
    let owner = resolve_owner(Some(&chown), None, Some(&looped.root)).expect("no entries");
    assert_eq!(owner.expect("asked for").gid, 0);
}

fn archive(entries: &[(&str, tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, target, content) in entries {
        let mut header = tar::Header::new_gnu();
        // The builder would refuse hostile names.
        let name = &mut header.as_gnu_mut().expect("gnu").name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let link = &mut header.as_gnu_mut().expect("gnu").linkname;
        link[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4750);
        header.set_uid(11);
        header.set_gid(12);
        header.set_mtime(1000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("appends");
    }
    builder.into_inner().expect("ends")
}

fn add(source: &Tree, dest: &Tree, name: &str) -> Result<(), String> {
    let action = pb::FileActionCopy { attempt_unpack_docker_compatibility: true, ..copy_of(name, "/out/") };
    copy(&source.root, &dest.root, &action, None).map_err(|error| error.to_string())
}

#[test]
fn archives_are_unpacked() {
    use tar::EntryType as T;
    let plain = archive(&[
        ("d/", T::Directory, "", ""),
        ("d/f", T::Regular, "", "content"),
        ("d/l", T::Symlink, "f", ""),
        ("d/h", T::Link, "d/f", ""),
        ("deep/er/f", T::Regular, "", "2"),
    ]);
    let (source, dest) = (Tree::new(), Tree::new());
    fs::write(source.path("a.tar"), &plain).expect("file");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("compresses");
    fs::write(source.path("a.tgz"), gzip.finish().expect("ends")).expect("file");
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).expect("compresses");
    fs::write(source.path("a.tbz"), bzip2.finish().expect("ends")).expect("file");
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::default()).expect("starts");
    xz.write_all(&plain).expect("compresses");
    fs::write(source.path("a.txz"), xz.finish().expect("ends")).expect("file");
    // Two frames and one to be skipped between them.
    let frame = |part: &[u8]| zstd::encode_all(part, 1).expect("compressed");
    let (front, back) = plain.split_at(700);
    let skipped = b"\x53\x2a\x4d\x18\x05\0\0\0other";
    let frames = [frame(front).as_slice(), skipped, &frame(back)].concat();
    fs::write(source.path("a.tzst"), frames).expect("file");
    for name in ["/a.tar", "/a.tgz", "/a.tbz", "/a.txz", "/a.tzst"] {
        dest.write("out/d", "in the way");
        add(&source, &dest, name).expect("unpacks");
        assert_eq!(dest.read("out/d/f"), "content");
        let meta = fs::metadata(dest.path("out/d/f")).expect("unpacked");
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o4750, 11, 12));
        assert_eq!((meta.mtime(), meta.nlink()), (1000, 2));
        assert_eq!(fs::metadata(dest.path("out/d")).expect("unpacked").mtime(), 1000);
        assert_eq!(fs::read_link(dest.path("out/d/l")).expect("link"), Path::new("f"));
        assert_eq!(dest.read("out/deep/er/f"), "2");
        fs::remove_dir_all(dest.path("out")).expect("removes");
    }
    source.write("no.tar", "no archive");
    add(&source, &dest, "/no.tar").expect("copies");
    assert_eq!(dest.read("out/no.tar"), "no archive");
    // What only begins like an archive is copied.
    for (name, content) in
        [("a.xz", &b"\xfd7zXZ\0rest"[..]), ("a.bz2", b"BZh9rest"), ("a.zst", b"\x28\xb5\x2f\xfd")]
    {
        fs::write(source.path(name), content).expect("file");
        add(&source, &dest, name).expect("copies");
        assert_eq!(fs::read(dest.path("out").join(name)).expect("copied"), content);
    }
}

#[test]
fn hostile_archives_stay_inside() {
    use tar::EntryType as T;
    let cases: &[&[(&str, T, &str, &str)]] = &[
        &[("../canary/file", T::Regular, "", "hacked")],
        &[("../../canary/file", T::Regular, "", "hacked")],
        &[("l", T::Symlink, "../../canary", ""), ("l/file", T::Regular, "", "hacked")],
        &[("h", T::Link, "../../canary/file", ""), ("h", T::Regular, "", "hacked")],
        &[("l", T::Symlink, "/", ""), ("h", T::Link, "l/../canary/file", "")],
        &[("l", T::Symlink, "l", ""), ("l/x", T::Regular, "", "hacked")],
        &[("", T::Regular, "", "x")],
        &[("/", T::Symlink, "/etc", "")],
        &[("x", T::new(b'!'), "", "")],
    ];
    for case in cases {
        let (source, dest) = (Tree::new(), Tree::new());
        fs::write(source.path("a.tar"), archive(case)).expect("file");
        let _ = add(&source, &dest, "/a.tar");
        dest.check_canary();
        assert!(dest.path("").is_dir());
    }
}

#[test]
fn a2_18_descriptions_without_end_are_refused() {
    use tar::EntryType as T;
    // A gigabyte of zeros is a megabyte when it is compressed.
    for kind in [T::XHeader, T::GNULongName, T::GNULongLink] {
        let (source, dest) = (Tree::new(), Tree::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(1 << 30);
        header.set_cksum();
        let file = archive(&[("first", T::Regular, "", "1")]);
        let file = &file[..1024];
        let hostile = [file, header.as_bytes()].concat();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&hostile).expect("compresses");
        std::io::copy(&mut std::io::repeat(0).take(1 << 30), &mut gzip).expect("compresses");
        fs::write(source.path("a.tgz"), gzip.finish().expect("ends")).expect("file");
        let error = add(&source, &dest, "/a.tgz").expect_err("refused");
        assert!(error.contains("after entry `first`: header of an entry is too long"), "{error}");
    }
}

#[test]
fn sparse_files_of_archives_are_unpacked_with_their_holes() {
    const SIZE: u64 = 64 << 20;
    let (source, dest) = (Tree::new(), Tree::new());
    source.write("sparse", "start");
    fs::File::options().write(true).open(source.path("sparse")).expect("file").set_len(SIZE).expect("sparse");
    for format in ["gnu", "posix"] {
        let made = std::process::Command::new("tar")
            .args(["--sparse", "--format", format, "-cf", "a.tar", "sparse"])
            .current_dir(source.path(""))
            .status();
        assert!(made.expect("tar runs").success());
        add(&source, &dest, "/a.tar").expect("unpacks");
        let unpacked = fs::metadata(dest.path("out/sparse")).expect("unpacked");
        assert_eq!(unpacked.len(), SIZE);
        assert!(unpacked.blocks() < 1000, "{format}: {} blocks", unpacked.blocks());
        assert!(dest.read("out/sparse").trim_end_matches('\0') == "start");
    }
}

#[test]
fn special_files_are_not_opened() {
    let (source, dest) = (Tree::new(), Tree::new());
    for (name, kind, device) in
        [("fifo", FileType::Fifo, 0), ("zero", FileType::CharacterDevice, makedev(1, 5))]
    {
        mknodat(CWD, source.path(name), kind, Mode::from_raw_mode(0o644), device).expect("node (needs root)");
        add(&source, &dest, &format!("/{name}")).expect("copies the node");
        let copied = fs::symlink_metadata(dest.path(&format!("out/{name}"))).expect("copied");
        let file_type = |meta: &fs::Metadata| meta.mode() & 0o170_000;
        let original = fs::symlink_metadata(source.path(name)).expect("there");
        assert_eq!(file_type(&copied), file_type(&original));
        // Writing to one is refused.
        assert!(mkfile(&source.root, &mkfile_of(name, "x"), None).is_err());
    }
}
