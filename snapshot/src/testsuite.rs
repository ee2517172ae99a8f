//! The conformance suite of [`Snapshotter`], for its implementations. Needs root.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buildkit_util_appcontext::spawn;

use crate::{
    ActiveKey, AnySnapshot, Change, Error, Form, LocalMounter, MergeInput, SnapshotKind, SnapshotName,
    Snapshotter,
};

/// Runs all cases below the existing directory `root`, each on a new snapshotter from `open`, which
/// is given a directory, the same one again to reopen it.
///
/// # Panics
/// When the snapshotter breaks the contract, or the process is not root.
pub async fn run<S: Snapshotter>(root: &Path, open: impl Fn(&Path) -> S) {
    assert!(rustix::process::geteuid().is_root(), "the snapshot suite needs root");
    let mounter = LocalMounter::open(root.join("mounts")).expect("mounter");
    let case = |name: &str| {
        let dir = root.join(name);
        std::fs::create_dir_all(&dir).expect("case directory");
        dir
    };
    let new = |name: &str| Fixture { snapshots: Arc::new(open(&case(name))), mounter: mounter.clone() };
    layers(&new("layers")).await;
    misuse(&new("misuse")).await;
    root_directory(&new("root")).await;
    usage(&new("usage")).await;
    changes(&new("changes")).await;
    merge(&new("merge")).await;
    merge_links(&new("links")).await;
    merge_entwined(&new("entwined")).await;
    merge_hostile_links(&new("hostile"), &case("outside")).await;
    long_chain(&new("chain")).await;
    concurrency(&new("concurrency")).await;
    reopening(&case("reopen"), &open, &mounter).await;
    rebasing(&case("rebase"), &open, &mounter).await;
    let left: Vec<_> = std::fs::read_dir(root.join("mounts")).expect("mounts").collect();
    assert!(left.is_empty(), "mount points are left: {left:?}");
}

struct Fixture<S> {
    snapshots: Arc<S>,
    mounter: LocalMounter,
}

fn key(name: &str) -> ActiveKey {
    ActiveKey(format!("key {name}"))
}

fn name(name: &str) -> SnapshotName {
    SnapshotName(name.to_owned())
}

impl<S: Snapshotter> Fixture<S> {
    /// A committed snapshot on a parent, changed by `change`.
    async fn layer(&self, of: &str, parent: Option<&str>, change: impl FnOnce(&Path)) {
        let parent = parent.map(name);
        self.snapshots.prepare(&key(of), parent.as_ref()).await.expect("prepare");
        self.write(of, change).await;
        self.snapshots.commit(&name(of), &key(of)).await.expect("commit");
    }

    async fn write(&self, of: &str, change: impl FnOnce(&Path)) {
        let mount = self.snapshots.mounts(&key(of)).await.expect("mounts");
        assert!(!mount.readonly);
        let guard = self.mounter.mount(&mount).expect("mount");
        change(guard.path());
    }

    async fn read<T>(&self, of: &str, look: impl FnOnce(&Path) -> T) -> T {
        let mount = self.snapshots.view(&name(of)).await.expect("view");
        assert!(mount.readonly);
        let guard = self.mounter.mount(&mount).expect("mount");
        look(guard.path())
    }

    async fn tree(&self, of: &str) -> BTreeMap<String, String> {
        self.read(of, tree).await
    }

    async fn changes(&self, lower: Option<&str>, upper: Option<&str>) -> Vec<String> {
        let (lower, upper) = (lower.map(name), upper.map(name));
        let changes = self.snapshots.changes(lower.as_ref(), upper.as_ref()).await.expect("changes");
        let show = |change: Change| match change {
            Change::Put(path) => format!("+{}", path.display()),
            Change::Delete(path) => format!("-{}", path.display()),
        };
        changes.into_iter().map(show).collect()
    }

    async fn merge(&self, of: &str, inputs: &[(Option<&str>, Option<&str>)]) {
        let inputs: Vec<_> = inputs
            .iter()
            .map(|(lower, upper)| MergeInput { lower: lower.map(name), upper: upper.map(name) })
            .collect();
        self.snapshots.merge(&name(of), &inputs).await.expect("merge");
    }
}

/// Paths and what is there: content of files, `/` for directories, `-> target` for links.
fn tree(root: &Path) -> BTreeMap<String, String> {
    fn visit(root: &Path, dir: &Path, out: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).expect("read dir") {
            let path = entry.expect("entry").path();
            let meta = std::fs::symlink_metadata(&path).expect("metadata");
            let shown = if meta.is_dir() {
                visit(root, &path, out);
                "/".to_owned()
            } else if meta.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).expect("link").display())
            } else if meta.is_file() {
                String::from_utf8_lossy(&std::fs::read(&path).expect("read")).into_owned()
            } else {
                "special".to_owned()
            };
            let relative = path.strip_prefix(root).expect("below").display().to_string();
            out.insert(relative, shown);
        }
    }
    let mut out = BTreeMap::new();
    visit(root, root, &mut out);
    out
}

fn expect(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(path, shown)| ((*path).to_owned(), (*shown).to_owned())).collect()
}

fn file(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    std::fs::write(path, content).expect("write");
}

fn remove(root: &Path, path: &str) {
    let path = root.join(path);
    if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir_all(path).expect("remove");
    } else {
        std::fs::remove_file(path).expect("remove");
    }
}

async fn layers<S: Snapshotter>(on: &Fixture<S>) {
    on.layer("1", None, |root| {
        file(root, "kept", "1");
        file(root, "changed", "1");
        file(root, "gone", "1");
        file(root, "dir/below", "1");
        file(root, "swapped/below", "1");
        symlink("/etc", root.join("link")).expect("symlink");
    })
    .await;
    on.layer("2", Some("1"), |root| {
        file(root, "changed", "2");
        file(root, "added/deep/file", "2");
        remove(root, "gone");
        remove(root, "dir");
        file(root, "dir/new", "2");
        remove(root, "swapped");
        file(root, "swapped", "2");
    })
    .await;
    let first = on.tree("1").await;
    assert_eq!(first.get("changed").map(String::as_str), Some("1"), "the parent does not change");
    assert_eq!(first.get("gone").map(String::as_str), Some("1"));
    let second = expect(&[
        ("added", "/"),
        ("added/deep", "/"),
        ("added/deep/file", "2"),
        ("changed", "2"),
        ("dir", "/"),
        ("dir/new", "2"),
        ("kept", "1"),
        ("link", "-> /etc"),
        ("swapped", "2"),
    ]);
    assert_eq!(on.tree("2").await, second);
    // Siblings do not see each other, and a discarded one was never there.
    on.snapshots.prepare(&key("3"), Some(&name("2"))).await.expect("prepare");
    on.write("3", |root| file(root, "kept", "3")).await;
    on.snapshots.discard(&key("3")).await.expect("discard");
    on.layer("4", Some("2"), |_| {}).await;
    assert_eq!(on.tree("4").await, second);
    // What is mounted twice is one tree.
    on.snapshots.prepare(&key("5"), Some(&name("4"))).await.expect("prepare");
    on.write("5", |root| file(root, "a", "5")).await;
    on.write("5", |root| {
        assert_eq!(std::fs::read_to_string(root.join("a")).expect("read"), "5");
        file(root, "b", "5");
    })
    .await;
    on.snapshots.commit(&name("5"), &key("5")).await.expect("commit");
    assert_eq!(on.tree("5").await.len(), second.len() + 2);
    let info = on.snapshots.stat(&name("5")).await.expect("stat");
    assert_eq!((info.kind, info.parent), (SnapshotKind::Committed, Some(name("4"))));
    let mut listed: Vec<_> =
        on.snapshots.list().await.expect("list").into_iter().map(|info| info.name).collect();
    listed.sort();
    assert_eq!(listed, ["1", "2", "4", "5"]);
    on.read("1", |root| {
        let error = std::fs::write(root.join("kept"), "x").expect_err("read-only");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
    })
    .await;
}

async fn misuse<S: Snapshotter>(on: &Fixture<S>) {
    let snapshots = &on.snapshots;
    on.layer("a", None, |root| file(root, "f", "a")).await;
    let missing = name("missing");
    assert!(matches!(snapshots.prepare(&key("x"), Some(&missing)).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.view(&missing).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.stat(&missing).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.usage(&missing).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.remove(&missing).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.mounts(&key("x")).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.discard(&key("x")).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.active_usage(&key("x")).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.commit(&name("x"), &key("x")).await, Err(Error::NotFound(_))));
    let unknown = [MergeInput { lower: None, upper: Some(missing.clone()) }];
    assert!(matches!(snapshots.merge(&name("m"), &unknown).await, Err(Error::NotFound(_))));
    assert!(matches!(snapshots.merge(&name("a"), &[]).await, Err(Error::AlreadyExists(_))));
    assert!(matches!(snapshots.changes(Some(&missing), None).await, Err(Error::NotFound(_))));

    snapshots.prepare(&key("x"), Some(&name("a"))).await.expect("prepare");
    assert!(matches!(snapshots.prepare(&key("x"), None).await, Err(Error::AlreadyExists(_))));
    assert!(matches!(snapshots.commit(&name("a"), &key("x")).await, Err(Error::AlreadyExists(_))));
    assert!(matches!(snapshots.remove(&name("a")).await, Err(Error::Precondition { .. })), "has a child");
    snapshots.commit(&name("b"), &key("x")).await.expect("commit after a refused one");
    assert!(matches!(snapshots.mounts(&key("x")).await, Err(Error::NotFound(_))), "the key is free");
    assert!(matches!(snapshots.remove(&name("a")).await, Err(Error::Precondition { .. })));
    snapshots.remove(&name("b")).await.expect("remove the child");
    snapshots.remove(&name("a")).await.expect("remove the parent");
    assert!(snapshots.list().await.expect("list").is_empty());
}

async fn root_directory<S: Snapshotter>(on: &Fixture<S>) {
    on.layer("1", None, |root| {
        assert_eq!(std::fs::metadata(root).expect("metadata").mode() & 0o7777, 0o755);
        std::os::unix::fs::chown(root, Some(7), Some(8)).expect("chown");
        std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o1711)).expect("chmod");
    })
    .await;
    on.layer("2", Some("1"), |_| {}).await;
    on.read("2", |root| {
        let meta = std::fs::metadata(root).expect("metadata");
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (7, 8, 0o1711));
    })
    .await;
}

async fn usage<S: Snapshotter>(on: &Fixture<S>) {
    const MIB: u64 = 1 << 20;
    let between = |size: u64, low: u64| assert!((low..low + MIB / 4).contains(&size), "{size}, not {low}");
    on.snapshots.prepare(&key("1"), None).await.expect("prepare");
    on.write("1", |root| {
        std::fs::write(root.join("big"), vec![1u8; 1 << 20]).expect("write");
        std::fs::hard_link(root.join("big"), root.join("again")).expect("link");
    })
    .await;
    let now = on.snapshots.active_usage(&key("1")).await.expect("usage");
    between(now.size, MIB);
    let committed = on.snapshots.commit(&name("1"), &key("1")).await.expect("commit");
    assert_eq!(committed, now);
    assert_eq!(on.snapshots.usage(&name("1")).await.expect("usage"), now);
    assert_eq!(now.inodes, 2, "the root and one file");
    on.layer("2", None, |root| std::fs::write(root.join("other"), vec![2u8; 1 << 20]).expect("write")).await;
    // Hard links to the files of others cost nothing.
    let inputs = [
        MergeInput { lower: None, upper: Some(name("1")) },
        MergeInput { lower: None, upper: Some(name("2")) },
    ];
    let merged = on.snapshots.merge(&name("m"), &inputs).await.expect("merge");
    assert!(merged.size < MIB / 4, "{merged:?}");
    assert_eq!(on.snapshots.usage(&name("m")).await.expect("usage"), merged);
}

async fn changes<S: Snapshotter>(on: &Fixture<S>) {
    on.layer("1", None, |root| {
        for path in ["a", "b/c", "b/d/e", "f/g/h", "i/j", "k", "same/deep/file"] {
            file(root, path, path);
        }
    })
    .await;
    on.layer("2", Some("1"), |root| {
        file(root, "a", "changed");
        remove(root, "b/c");
        remove(root, "f");
        file(root, "f/new", "f");
        remove(root, "i");
        file(root, "i", "a file");
        remove(root, "k");
        file(root, "k/l", "a directory");
        file(root, "m/n", "m");
        // Copied up, but the same.
        let path = root.join("same/deep/file");
        let times = std::fs::metadata(&path).expect("metadata").modified().expect("mtime");
        let opened = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
        opened.set_modified(times).expect("set mtime");
    })
    .await;
    let changed = on.changes(Some("1"), Some("2")).await;
    assert_eq!(changed, ["+a", "-b/c", "-f/g", "+f/new", "+i", "+k", "+k/l", "+m", "+m/n"]);
    assert!(on.changes(Some("1"), Some("1")).await.is_empty());
    assert!(on.changes(None, None).await.is_empty());
    assert_eq!(on.changes(Some("2"), None).await, ["-a", "-b", "-f", "-i", "-k", "-m", "-same"]);
    let all = on.changes(None, Some("2")).await;
    assert_eq!(all.first().map(String::as_str), Some("+a"));
    assert_eq!(all.len(), on.tree("2").await.len());
    // Between snapshots that are not parent and child.
    on.layer("3", Some("1"), |root| file(root, "only3", "3")).await;
    let across = on.changes(Some("2"), Some("3")).await;
    assert!(across.contains(&"+only3".to_owned()) && across.contains(&"+a".to_owned()), "{across:?}");
    assert!(across.contains(&"-m".to_owned()), "{across:?}");
    assert!(!across.contains(&"+same/deep/file".to_owned()), "{across:?}");
    on.layer("4", Some("3"), |root| file(root, "b/d/e", "4")).await;
    assert_eq!(on.changes(Some("1"), Some("4")).await, ["+b/d/e", "+only3"]);
}

async fn merge<S: Snapshotter>(on: &Fixture<S>) {
    on.layer("base", None, |root| {
        file(root, "bin/sh", "sh");
        file(root, "etc/conf", "base");
        file(root, "dir/base", "base");
    })
    .await;
    on.layer("base2", Some("base"), |root| file(root, "etc/second", "base2")).await;
    on.layer("a", None, |root| {
        file(root, "etc/conf", "a");
        file(root, "a/file", "a");
        symlink("file", root.join("a/link")).expect("symlink");
        std::fs::set_permissions(root.join("a"), std::fs::Permissions::from_mode(0o2750)).expect("chmod");
    })
    .await;
    on.layer("b", None, |root| {
        file(root, "a/other", "b");
        file(root, "dir", "now a file");
    })
    .await;
    on.merge(
        "m",
        &[(None, Some("base")), (Some("base"), Some("base2")), (None, Some("a")), (None, Some("b"))],
    )
    .await;
    let merged = expect(&[
        ("a", "/"),
        ("a/file", "a"),
        ("a/link", "-> file"),
        ("a/other", "b"),
        ("bin", "/"),
        ("bin/sh", "sh"),
        ("dir", "now a file"),
        ("etc", "/"),
        ("etc/conf", "a"),
        ("etc/second", "base2"),
    ]);
    assert_eq!(on.tree("m").await, merged);
    // Parents go first only when they are used; the result is like any committed snapshot.
    on.layer("on m", Some("m"), |root| file(root, "a/file", "changed")).await;
    assert_eq!(
        on.tree("a").await.get("a/file").map(String::as_str),
        Some("a"),
        "links are not written through"
    );
    assert_eq!(on.tree("m").await, merged);

    // Deletions: of what is in the base, of what an earlier input brought, of what is not there.
    on.layer("d1", Some("base"), |root| {
        remove(root, "etc/conf");
        remove(root, "dir");
    })
    .await;
    on.merge("deleted", &[(None, Some("base2")), (None, Some("a")), (Some("base"), Some("d1"))]).await;
    let tree = on.tree("deleted").await;
    for path in ["etc/conf", "dir", "dir/base"] {
        assert!(!tree.contains_key(path), "{path} in {tree:?}");
    }
    assert_eq!(tree.get("etc/second").map(String::as_str), Some("base2"));
    assert_eq!(tree.get("a/file").map(String::as_str), Some("a"));
    // A directory in the place of a deleted or replaced one shows nothing of the old.
    on.merge(
        "again",
        &[(None, Some("base")), (Some("base"), Some("d1")), (None, Some("b")), (None, Some("base2"))],
    )
    .await;
    let tree = on.tree("again").await;
    assert_eq!(tree.get("dir/base").map(String::as_str), Some("base"));
    on.layer("dir only", None, |root| file(root, "dir/mine", "mine")).await;
    on.merge("hidden", &[(None, Some("base")), (None, Some("b")), (None, Some("dir only"))]).await;
    let tree = on.tree("hidden").await;
    assert_eq!(tree.get("dir/mine").map(String::as_str), Some("mine"));
    assert!(!tree.contains_key("dir/base"), "{tree:?}");
    // A difference alone, and nothing.
    on.merge("diff", &[(Some("base"), Some("base2"))]).await;
    assert_eq!(on.tree("diff").await, expect(&[("etc", "/"), ("etc/second", "base2")]));
    on.merge("empty", &[]).await;
    assert!(on.tree("empty").await.is_empty());
    on.merge("minus", &[(None, Some("base2")), (Some("base2"), None)]).await;
    assert!(on.tree("minus").await.is_empty());
}

async fn merge_links<S: Snapshotter>(on: &Fixture<S>) {
    on.layer("l", None, |root| {
        file(root, "x/one", "content");
        std::fs::hard_link(root.join("x/one"), root.join("x/two")).expect("link");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("x/pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o640),
            0,
        )
        .expect("mkfifo");
        let capability = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        rustix::fs::lsetxattr(
            root.join("x/one"),
            "security.capability",
            &capability,
            rustix::fs::XattrFlags::empty(),
        )
        .expect("setxattr");
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::open(root.join("x")).expect("open").set_modified(old).expect("set mtime");
    })
    .await;
    on.layer("other", None, |root| file(root, "y", "y")).await;
    on.merge("m", &[(None, Some("other")), (None, Some("l"))]).await;
    on.read("m", |root| {
        let (one, two) = (root.join("x/one"), root.join("x/two"));
        let (one, two) = (std::fs::metadata(one).expect("one"), std::fs::metadata(two).expect("two"));
        assert_eq!(one.ino(), two.ino(), "hard links stay");
        let mut value = [0u8; 64];
        let len =
            rustix::fs::lgetxattr(root.join("x/one"), "security.capability", &mut value).expect("xattr");
        assert_eq!(len, 20);
        let dir = std::fs::metadata(root.join("x")).expect("dir");
        assert_eq!(dir.mtime(), 1_000_000_000, "times of directories stay");
        let pipe = std::fs::symlink_metadata(root.join("x/pipe")).expect("pipe");
        assert_eq!(pipe.mode() & 0o7777, 0o640);
    })
    .await;
}

/// A symbolic link of one input in the place of a directory of another leads nothing out.
/// Files that are linked from tree to tree under other names stay files of their own where these trees
/// meet.
async fn merge_entwined<S: Snapshotter>(on: &Fixture<S>) {
    let inode = |root: &Path, path: &str| std::fs::metadata(root.join(path)).expect(path).ino();
    on.layer("source", None, |root| {
        file(root, "f", "content");
        file(root, "g", "other");
        std::fs::hard_link(root.join("g"), root.join("h")).expect("link");
    })
    .await;
    let source = AnySnapshot::Committed(name("source"));
    let view = on.snapshots.view(&name("source")).await.expect("view").source;
    for of in ["1", "2"] {
        on.snapshots.prepare(&key(of), None).await.expect("prepare");
        if !on.snapshots.entwine(&key(of), &source).await.expect("entwine") {
            on.snapshots.discard(&key(of)).await.expect("discard");
            return;
        }
        on.write(of, |root| {
            std::fs::create_dir(root.join(of)).expect("directory");
            for file in ["f", "g"] {
                std::fs::hard_link(view.join(file), root.join(of).join(file)).expect("link");
            }
            std::fs::hard_link(root.join(of).join("g"), root.join(of).join("h")).expect("link");
        })
        .await;
        on.snapshots.commit(&name(of), &key(of)).await.expect("commit");
    }
    on.layer("apart", None, |root| file(root, "apart", "apart")).await;
    on.layer("on 1", Some("1"), |root| file(root, "new", "new")).await;
    type Inputs<'a> = &'a [(Option<&'a str>, Option<&'a str>)];
    let cases: [(&str, Inputs<'_>); 4] = [
        ("m1", &[(None, Some("1")), (None, Some("2")), (None, Some("apart"))]),
        ("m2", &[(None, Some("apart")), (None, Some("1")), (None, Some("2"))]),
        ("m3", &[(None, Some("1")), (Some("1"), Some("on 1")), (None, Some("2"))]),
        ("m4", &[(None, Some("1")), (None, Some("source"))]),
    ];
    for (of, inputs) in cases {
        on.merge(of, inputs).await;
        let second = if of == "m4" { "" } else { "2/" };
        on.read(of, |root| {
            for file in ["f", "g"] {
                let (one, two) = (inode(root, &format!("1/{file}")), inode(root, &format!("{second}{file}")));
                assert_ne!(one, two, "{of}: {file} is one file");
            }
            // What is one file in one tree still is.
            for dir in ["1/", second] {
                assert_eq!(inode(root, &format!("{dir}g")), inode(root, &format!("{dir}h")), "{of}: {dir}");
            }
        })
        .await;
    }
    // A merge that has some of these files counts as well.
    on.merge("of merge", &[(None, Some("2")), (Some("apart"), Some("m2"))]).await;
    on.read("of merge", |root| assert_ne!(inode(root, "1/f"), inode(root, "2/f"))).await;
}

async fn merge_hostile_links<S: Snapshotter>(on: &Fixture<S>, outside: &Path) {
    file(outside, "victim", "safe");
    let target: PathBuf = outside.to_owned();
    on.layer("link", None, |root| symlink(&target, root.join("d")).expect("symlink")).await;
    on.layer("dir", None, |root| file(root, "d/victim", "written")).await;
    on.layer("gone", Some("dir"), |root| remove(root, "d/victim")).await;
    on.merge("m1", &[(None, Some("link")), (None, Some("dir"))]).await;
    on.merge("m2", &[(None, Some("dir")), (None, Some("link")), (Some("dir"), Some("gone"))]).await;
    on.merge("m3", &[(None, Some("link")), (Some("dir"), Some("gone"))]).await;
    assert_eq!(std::fs::read_to_string(outside.join("victim")).expect("read"), "safe");
    assert_eq!(on.tree("m1").await, expect(&[("d", "/"), ("d/victim", "written")]));
    on.changes(Some("link"), Some("dir")).await;
    on.changes(Some("dir"), Some("link")).await;
}

/// More layers than fit into one page of mount options, with all that layers can do.
async fn long_chain<S: Snapshotter>(on: &Fixture<S>) {
    const LAYERS: usize = 150;
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    let mut models = Vec::new();
    for number in 0..LAYERS {
        let parent = number.checked_sub(1).map(|parent| parent.to_string());
        on.layer(&number.to_string(), parent.as_deref(), |root| {
            file(root, &format!("file{number}"), "x");
            file(root, "last", &number.to_string());
            if number % 3 == 2 {
                remove(root, &format!("file{}", number - 2));
            }
            match number % 20 {
                1 => file(root, "dir/below/f", &number.to_string()),
                7 => remove(root, "dir"),
                9 => file(root, "dir", "a file"),
                13 => {
                    remove(root, "dir");
                    file(root, &format!("dir/new{number}"), "x");
                }
                17 => remove(root, "dir"),
                _ => {}
            }
            model = tree(root);
        })
        .await;
        models.push(model.clone());
    }
    assert_eq!(models[LAYERS - 1].get("last"), Some(&(LAYERS - 1).to_string()));
    assert!(models[14].contains_key("dir/new13") && !models[14].contains_key("dir/below"));
    for (number, model) in models.iter().enumerate().rev().step_by(7) {
        assert_eq!(on.tree(&number.to_string()).await, *model, "layer {number}");
    }
    assert_eq!(on.changes(Some("148"), Some("149")).await, ["+dir", "-file147", "+file149", "+last"]);
    let all: std::collections::BTreeSet<_> = on.changes(None, Some("149")).await.into_iter().collect();
    assert_eq!(all, models[149].keys().map(|path| format!("+{path}")).collect());
}

async fn concurrency<S: Snapshotter>(on: &Fixture<S>) {
    on.layer("parent", None, |root| file(root, "f", "f")).await;
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let snapshots = on.snapshots.clone();
            spawn(async move {
                let shared = snapshots.prepare(&key("shared"), Some(&name("parent"))).await.is_ok();
                let own = format!("own {number}");
                snapshots.prepare(&key(&own), Some(&name("parent"))).await.expect("prepare");
                snapshots.commit(&name(&own), &key(&own)).await.expect("commit");
                (shared, snapshots.commit(&name("shared"), &key("shared")).await.is_ok())
            })
        })
        .collect();
    let (mut prepared, mut committed) = (0, 0);
    for task in tasks {
        let (first, second) = task.await.expect("task");
        prepared += usize::from(first);
        committed += usize::from(second);
    }
    assert!(prepared >= 1, "one prepares it");
    assert_eq!(committed, 1, "one commits it");
    let own = on.snapshots.list().await.expect("list");
    assert_eq!(own.iter().filter(|info| info.name.starts_with("own ")).count(), 16);
}

async fn reopening<S: Snapshotter>(root: &Path, open: &impl Fn(&Path) -> S, mounter: &LocalMounter) {
    let reopen = || Fixture { snapshots: Arc::new(open(root)), mounter: mounter.clone() };
    let on = reopen();
    on.layer("1", None, |root| file(root, "f", "1")).await;
    on.layer("2", Some("1"), |root| file(root, "g", "2")).await;
    on.layer("gone", Some("2"), |root| file(root, "h", "3")).await;
    on.snapshots.remove(&name("gone")).await.expect("remove");
    on.snapshots.prepare(&key("active"), Some(&name("2"))).await.expect("prepare");
    on.write("active", |root| file(root, "f", "active")).await;
    let (before, usage) = (on.tree("2").await, on.snapshots.usage(&name("2")).await.expect("usage"));
    let info = on.snapshots.stat(&name("2")).await.expect("stat");
    // Nothing is closed in order: a killed process does not either.
    for _ in 0..2 {
        let on = reopen();
        assert_eq!(on.tree("2").await, before);
        assert_eq!(on.snapshots.usage(&name("2")).await.expect("usage"), usage);
        let again = on.snapshots.stat(&name("2")).await.expect("stat");
        assert_eq!(again.parent, info.parent);
        assert!(matches!(on.snapshots.stat(&name("gone")).await, Err(Error::NotFound(_))));
        assert!(matches!(on.snapshots.remove(&name("1")).await, Err(Error::Precondition { .. })));
    }
    let on = reopen();
    on.write("active", |root| {
        assert_eq!(std::fs::read_to_string(root.join("f")).expect("read"), "active");
        assert_eq!(std::fs::read_to_string(root.join("g")).expect("read"), "2");
    })
    .await;
    on.snapshots.commit(&name("3"), &key("active")).await.expect("commit");
    assert_eq!(on.tree("3").await.get("f").map(String::as_str), Some("active"));
}

/// A snapshot that was filled before its parent was there.
async fn rebasing<S: Snapshotter>(root: &Path, open: &impl Fn(&Path) -> S, mounter: &LocalMounter) {
    let reopen = || Fixture { snapshots: Arc::new(open(root)), mounter: mounter.clone() };
    let on = reopen();
    on.snapshots.prepare(&key("top"), None).await.expect("prepare");
    on.write("top", |root| file(root, "dir/new", "new")).await;
    on.layer("base", None, |root| file(root, "dir/old", "old")).await;
    on.layer("middle", Some("base"), |root| {
        file(root, "other", "");
        std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("chmod");
    })
    .await;
    let rebased = on.snapshots.rebase(&key("top"), &name("middle"), true).await;
    if on.snapshots.form() == Form::Whole {
        assert!(matches!(rebased, Err(Error::Precondition { .. })));
        return;
    }
    rebased.expect("rebase");
    let twice = on.snapshots.rebase(&key("top"), &name("base"), true).await;
    assert!(matches!(twice, Err(Error::Precondition { .. })));
    let all =
        expect(&[("dir", "/"), ("dir/old", "old"), ("dir/new", "new"), ("other", ""), ("more", "more")]);
    let on = reopen();
    on.write("top", |root| file(root, "more", "more")).await;
    on.snapshots.commit(&name("top"), &key("top")).await.expect("commit");
    assert!(matches!(on.snapshots.remove(&name("middle")).await, Err(Error::Precondition { .. })));
    for _ in 0..2 {
        let on = reopen();
        assert_eq!(on.tree("top").await, all);
        let mode = on.read("top", |root| std::fs::metadata(root).expect("metadata").permissions()).await;
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o700);
        assert_eq!(on.snapshots.directories(&name("top")).await.expect("directories").len(), 3);
    }
}
