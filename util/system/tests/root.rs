//! Root-confined access against a real file system. Needs root (device nodes, owners).

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use buildkit_util_system::{CreateFile, Error, FileKind, Root};
use tempfile::TempDir;

struct Tree {
    dir: TempDir,
    root: Root,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(dir.path().join("root")).expect("root");
        std::fs::write(dir.path().join("canary"), "outside").expect("canary");
        let root = Root::open(dir.path().join("root")).expect("open");
        Self { dir, root }
    }

    fn host(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }
}

fn assert_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
}

#[test]
fn lookups_stay_inside() {
    let tree = Tree::new();
    std::fs::create_dir(tree.host("etc")).expect("etc");
    std::fs::write(tree.host("etc/canary"), "inside").expect("file");
    let outside = tree.dir.path().join("canary");
    symlink(&outside, tree.host("absolute")).expect("link");
    symlink("../../../canary", tree.host("climbing")).expect("link");
    symlink("/etc/canary", tree.host("good")).expect("link");
    symlink("/proc/self/root", tree.host("magic")).expect("link");
    for path in ["absolute", "climbing", "magic/etc", "../canary", "/../../canary", "etc/../../canary"] {
        let error = tree.root.read_file(path, 100).expect_err(path);
        assert!(error.is_not_found(), "{path}: {error:?}");
    }
    for path in ["good", "/good", "/etc/canary", "etc/../etc/canary", "../../etc/canary"] {
        assert_eq!(tree.root.read_file(path, 100).expect(path), b"inside", "{path}");
    }
    let error = tree.root.create_file("absolute", 0o644, CreateFile::Truncate).expect_err("a link");
    assert!(matches!(error, Error::NotRegular(_)), "{error:?}");
    assert_eq!(std::fs::read_to_string(outside).expect("canary"), "outside");
}

#[test]
fn special_files_are_not_opened() {
    assert_root();
    let tree = Tree::new();
    tree.root.mknod("fifo", FileKind::Fifo, 0o644, (0, 0)).expect("fifo");
    tree.root.mknod("zero", FileKind::CharDevice, 0o644, (1, 5)).expect("device");
    symlink("loop", tree.host("loop")).expect("link");
    std::fs::create_dir(tree.host("dir")).expect("dir");
    for path in ["fifo", "zero", "dir"] {
        let error = tree.root.open_file(path).expect_err(path);
        assert!(matches!(error, Error::NotRegular(_)), "{path}: {error:?}");
    }
    assert_eq!(tree.root.open_file("loop").expect_err("loop").errno(), Some(40));
    std::fs::File::create(tree.host("big")).and_then(|f| f.set_len(8 << 30)).expect("sparse");
    let error = tree.root.read_file("big", 1 << 20).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[test]
fn mkdir_all_follows_dangling_links_inside() {
    assert_root();
    let tree = Tree::new();
    symlink("/run/deep", tree.host("var")).expect("link");
    let created = tree.root.mkdir_all("/var/lib/x", 0o2751, Some((7, 8))).expect("mkdir");
    let expect: Vec<PathBuf> =
        ["/run", "/run/deep", "/run/deep/lib", "/run/deep/lib/x"].map(PathBuf::from).into();
    assert_eq!(created, expect);
    let meta = std::fs::metadata(tree.host("run/deep/lib/x")).expect("made");
    assert_eq!((meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777), (7, 8, 0o2751));
    assert!(tree.root.mkdir_all("/var/lib/x", 0o755, None).expect("again").is_empty());
    symlink("../../../../../../esc", tree.host("up")).expect("link");
    assert_eq!(tree.root.mkdir_all("up/a", 0o755, None).expect("mkdir").len(), 2);
    assert!(!tree.dir.path().join("esc").exists());
    assert!(tree.host("esc/a").is_dir());
    std::fs::write(tree.host("file"), "").expect("file");
    assert_eq!(tree.root.mkdir_all("file/a", 0o755, None).expect_err("a file").errno(), Some(20));
    symlink("l2", tree.host("l1")).expect("link");
    symlink("l1", tree.host("l2")).expect("link");
    assert_eq!(tree.root.mkdir_all("l1/a", 0o755, None).expect_err("a loop").errno(), Some(40));
    assert_eq!(tree.root.real_path("var/none/../y").expect("path"), Path::new("/run/deep/y"));
    assert_eq!(tree.root.real_path("file").expect("path"), Path::new("/file"));
}

#[test]
fn create_modes() {
    let tree = Tree::new();
    std::fs::write(tree.host("target"), "old").expect("file");
    symlink("target", tree.host("link")).expect("link");
    assert_eq!(
        tree.root.create_file("target", 0o600, CreateFile::New).expect_err("exists").io_kind(),
        std::io::ErrorKind::AlreadyExists
    );
    tree.root.create_file("link", 0o4711, CreateFile::Replace).expect("replaced");
    assert_eq!(tree.root.lstat("link").expect("stat").permissions(), 0o4711);
    assert_eq!(std::fs::read(tree.host("target")).expect("old"), b"old");
    let before = tree.root.lstat("target").expect("stat");
    tree.root.create_file("target", 0o777, CreateFile::Truncate).expect("emptied");
    let after = tree.root.lstat("target").expect("stat");
    assert!(before.same_inode(&after) && after.size == 0 && after.mode == before.mode);
}

#[test]
fn remove_all_takes_any_depth_and_follows_no_link() {
    let tree = Tree::new();
    let mut dir = tree.root.try_clone().expect("clone");
    for _ in 0..1000 {
        dir.mkdir("d", 0o755, None).expect("mkdir");
        dir.mkdir(".buildkit-removed-1", 0o755, None).expect("mkdir");
        dir.create_file("f", 0o644, CreateFile::New).expect("file");
        dir = dir.sub_root("d").expect("deeper");
    }
    dir.symlink(tree.dir.path(), "out").expect("link");
    tree.root.remove_all("d").expect("remove");
    tree.root.remove_all("d").expect("nothing to remove");
    tree.root.remove_all("none/d").expect("nothing to remove");
    assert!(tree.dir.path().join("canary").exists());
    tree.root.remove_all("/").expect("all");
    assert_eq!(tree.root.read_dir("/").expect("list"), []);
}

#[test]
fn handles_keep_their_inode() {
    let tree = Tree::new();
    std::fs::write(tree.host("a"), "first").expect("file");
    let handle = tree.root.resolve("a").expect("handle");
    std::fs::rename(tree.host("a"), tree.host("b")).expect("rename");
    symlink("../canary", tree.host("a")).expect("link");
    assert_eq!(handle.read(10).expect("read"), b"first");
    assert_eq!(std::fs::read(handle.proc_path()).expect("read"), b"first");
    handle.set_xattr("user.test", b"value").expect("set");
    assert_eq!(handle.get_xattr("user.test").expect("get").as_deref(), Some(b"value".as_slice()));
    assert_eq!(handle.get_xattr("user.none").expect("get"), None);
    assert!(handle.list_xattrs().expect("list").contains(&"user.test".into()));
    handle.set_xattr("user.test", &vec![7; 2000]).expect("set");
    assert_eq!(handle.get_xattr("user.test").expect("get").map(|v| v.len()), Some(2000));
    handle.remove_xattr("user.test").expect("remove");
    handle.remove_xattr("user.test").expect("remove again");
    let link = tree.root.resolve_no_follow("a").expect("link");
    assert_eq!(link.readlink().expect("target"), "../canary");
    assert!(link.list_xattrs().is_ok());
    let time = buildkit_util_system::Timestamp { seconds: -5, nanoseconds: 7 };
    link.set_times(None, Some(time)).expect("times");
    assert_eq!(link.stat().expect("stat").mtime, time);
    assert_root();
    link.chown(3, 4).expect("owner");
    assert_eq!(link.stat().map(|s| (s.uid, s.gid)).expect("stat"), (3, 4));
}

#[test]
fn a1_06_swapped_directories_never_lead_outside() {
    let tree = Tree::new();
    std::fs::create_dir(tree.host("d")).expect("dir");
    std::fs::write(tree.host("d/canary"), "inside").expect("file");
    symlink(tree.dir.path(), tree.host("evil")).expect("link");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let cwd = rustix::fs::CWD;
                let swap = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(cwd, tree.host("d"), cwd, tree.host("evil"), swap).expect("swap");
            }
        });
        let (mut found, mut missed) = (0, 0);
        for _ in 0..buildkit_util_testutil::rounds(20_000) {
            match tree.root.read_file("d/canary", 100) {
                Ok(content) => {
                    assert_eq!(content, b"inside");
                    found += 1;
                }
                Err(error) => {
                    assert!(error.is_not_found(), "{error:?}");
                    missed += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(found > 0 && missed > 0, "the race did not happen: {found} {missed}");
    });
}
