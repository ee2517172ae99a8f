//! What is looked at and what is not. Needs root to make device nodes.

use std::sync::mpsc;
use std::time::Duration;

use buildkit_cache_contenthash::{ChecksumOptions, Error, Tree, TreeUpdater, hash_file};
use buildkit_util_cachedigest::Digest;
use buildkit_util_fsutil_types::Stat;
use buildkit_util_system::Root;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

fn options() -> ChecksumOptions {
    ChecksumOptions::default()
}

#[test]
fn special_files_are_never_opened() {
    let directory = tempfile::tempdir().expect("directory");
    let node = |name: &str, kind, device| {
        mknodat(CWD, directory.path().join(name), kind, Mode::from_raw_mode(0o644), device)
            .expect("node (needs root)");
    };
    node("fifo", FileType::Fifo, 0);
    node("zero", FileType::CharacterDevice, makedev(1, 5));
    node("block", FileType::BlockDevice, makedev(8, 0));
    node("socket", FileType::Socket, 0);
    let root = Root::open(directory.path()).expect("root");
    let (done, wait) = mpsc::channel();
    // Opening any of them would block, never end or fail.
    let worker = std::thread::Builder::new()
        .spawn(move || {
            let mut tree = Tree::new();
            let all = tree.checksum(Some(&root), "/", &options());
            done.send(all.map(|_| ())).expect("receiver waits");
        })
        .expect("thread");
    wait.recv_timeout(Duration::from_secs(30)).expect("ends").expect("hashes");
    worker.join().expect("no panic");
}

#[test]
fn links_do_not_lead_out() {
    let outside = tempfile::tempdir().expect("directory");
    std::fs::write(outside.path().join("secret"), "secret").expect("file");
    let inside = tempfile::tempdir().expect("directory");
    std::os::unix::fs::symlink(outside.path(), inside.path().join("abs")).expect("link");
    std::os::unix::fs::symlink("../../../../../../etc", inside.path().join("up")).expect("link");
    let root = Root::open(inside.path()).expect("root");
    for path in ["/abs/secret", "/up/passwd", "/../etc/passwd", "abs/../../etc/passwd"] {
        let result = Tree::new().checksum(Some(&root), path, &options());
        assert!(matches!(result, Err(Error::NotFound(_))), "{path}: {result:?}");
    }
}

#[test]
fn only_what_is_asked_for_is_hashed() {
    let directory = tempfile::tempdir().expect("directory");
    for name in ["a", "b"] {
        std::fs::create_dir(directory.path().join(name)).expect("directory");
        std::fs::write(directory.path().join(name).join("f"), name).expect("file");
    }
    let root = Root::open(directory.path()).expect("root");
    let mut tree = Tree::new();
    let digest = tree.checksum(Some(&root), "/a/f", &options()).expect("hashes");
    assert_eq!(digest, hash_file(&root, "/a/f".as_ref()).expect("hashes"));
    // Known paths need no files; neither does what is missing beside them.
    assert_eq!(tree.checksum(None, "/a/f", &options()).expect("known"), digest);
    assert!(matches!(tree.checksum(None, "/a/g", &options()), Err(Error::NotFound(_))));
    assert!(matches!(tree.checksum(None, "/b/f", &options()), Err(Error::NeedsFiles)));
}

#[test]
fn deep_trees_need_no_stack() {
    // Deeper than any path that the system takes, so fed rather than found.
    let mut updater = TreeUpdater::new(Tree::new());
    let mut path = String::new();
    for _ in 0..3000 {
        path.push_str("/d");
        let stat = Stat { path: path.clone(), mode: 1 << 31, ..Stat::default() };
        updater.add(&stat, &Digest::sha256(&path));
    }
    let mut tree = updater.finish();
    let before = tree.checksum(None, "/", &options()).expect("known");
    let mut updater = TreeUpdater::new(tree);
    updater.add(&Stat { path: format!("{path}/f"), ..Stat::default() }, &Digest::sha256("f"));
    let after = updater.finish().checksum(None, "/", &options()).expect("known");
    assert_ne!(before, after);
}

#[test]
fn damaged_records_are_refused() {
    for bytes in [&b"\xff"[..], b"\x0a\x02\x08\x09", b"\x0a\x02\x18\x07", b"\x0a\x03\x22\x01\x00"] {
        assert!(matches!(Tree::from_bytes(bytes), Err(Error::Damaged)), "{bytes:?}");
    }
    assert!(Tree::from_bytes(b"").expect("empty").is_empty());
}
