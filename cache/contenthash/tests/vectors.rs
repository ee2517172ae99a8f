//! Compares with checksums recorded from Go (see `vectors/README.md`). Needs root: trees have
//! owners, devices and trusted attributes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use buildkit_cache_contenthash::{ChecksumOptions, FileHash, Tree, TreeUpdater};
use buildkit_util_fsutil_types::Stat;
use buildkit_util_system::Root;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    tree: Vec<Entry>,
    queries: Vec<Query>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    r#type: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    major: u32,
    #[serde(default)]
    minor: u32,
    #[serde(default)]
    target: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    repeat: usize,
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
}

#[derive(Deserialize, Debug)]
struct Query {
    path: String,
    #[serde(default)]
    follow_links: bool,
    #[serde(default)]
    wildcard: bool,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    required: Vec<String>,
    digest: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Changes {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    changes: Vec<Changed>,
    queries: Vec<Query>,
}

#[derive(Deserialize)]
struct Changed {
    kind: String,
    path: String,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    linkname: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    linkname: String,
    #[serde(default)]
    devmajor: i64,
    #[serde(default)]
    devminor: i64,
    #[serde(default)]
    content: String,
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
    digest: Option<String>,
    error: Option<String>,
}

fn make(root: &Path, entry: &Entry) {
    let path = root.join(entry.path.trim_start_matches('/'));
    let mode = u32::from_str_radix(&entry.mode, 8).unwrap_or(0o777);
    let node = |kind, device| {
        mknodat(CWD, &path, kind, Mode::from_raw_mode(mode), device).expect("node");
    };
    match entry.r#type.as_str() {
        "dir" if path.is_dir() => {}
        "dir" => std::fs::create_dir(&path).expect("directory"),
        "file" => {
            let content = entry.content.repeat(entry.repeat.max(1));
            std::fs::write(&path, content).expect("file");
        }
        "symlink" => std::os::unix::fs::symlink(&entry.target, &path).expect("link"),
        "hardlink" => {
            return std::fs::hard_link(root.join(&entry.target), &path).expect("link");
        }
        "fifo" => node(FileType::Fifo, 0),
        "socket" => node(FileType::Socket, 0),
        "char" => node(FileType::CharacterDevice, makedev(entry.major, entry.minor)),
        "block" => node(FileType::BlockDevice, makedev(entry.major, entry.minor)),
        other => panic!("unknown type {other}"),
    }
    std::os::unix::fs::lchown(&path, Some(entry.uid), Some(entry.gid)).expect("owner (needs root)");
    if entry.r#type != "symlink" {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
    }
    for (name, value) in &entry.xattrs {
        let value = hex::decode(value).expect("hex");
        rustix::fs::lsetxattr(&path, name.as_str(), &value, XattrFlags::empty()).expect("xattr");
    }
}

fn ask(tree: &mut Tree, root: Option<&Root>, query: &Query, context: &str) {
    let options = ChecksumOptions {
        follow_links: query.follow_links,
        wildcard: query.wildcard,
        include: query.include.clone(),
        exclude: query.exclude.clone(),
        required: query.required.clone(),
    };
    match (tree.checksum(root, &query.path, &options), &query.digest, &query.error) {
        (Ok(digest), Some(expected), None) => {
            assert_eq!(digest.as_str(), expected, "{context}: {query:?}");
        }
        (Err(error), None, Some(expected)) => {
            assert_eq!(error.to_string(), expected.replace("<root>", ""), "{context}: {query:?}");
        }
        (got, ..) => panic!("{context}: {query:?}: {got:?}"),
    }
}

fn check(file: &str) {
    let recorded: Vec<Recorded> = serde_json::from_str(file)
        .or_else(|_| serde_json::from_str(file).map(|one| vec![one]))
        .expect("vectors");
    for recorded in recorded {
        let directory = tempfile::tempdir().expect("directory");
        for entry in &recorded.tree {
            make(directory.path(), entry);
        }
        let root = Root::open(directory.path()).expect("root");
        assert!(!recorded.queries.is_empty());
        let mut shared = Tree::new();
        for query in &recorded.queries {
            ask(&mut Tree::new(), Some(&root), query, "empty tree");
            // The words of errors were recorded with empty trees.
            if query.digest.is_some() {
                ask(&mut shared, Some(&root), query, "shared tree");
            }
        }
        assert!(shared.take_dirty() && !shared.take_dirty());
        // What was learned is enough, also after it was stored.
        let mut stored = Tree::from_bytes(&shared.to_bytes()).expect("stored");
        assert_eq!(stored, shared);
        for query in recorded.queries.iter().filter(|query| query.digest.is_some()) {
            ask(&mut stored, None, query, "stored tree");
        }
    }
}

#[test]
fn checksums_of_trees() {
    check(include_str!("vectors/tree-main.json"));
    check(include_str!("vectors/tree-small.json"));
    check(include_str!("vectors/tree-empty.json"));
}

fn decoded(xattrs: &BTreeMap<String, String>) -> BTreeMap<String, bytes::Bytes> {
    let decode = |value: &String| hex::decode(value).expect("hex").into();
    xattrs.iter().map(|(name, value)| (name.clone(), decode(value))).collect()
}

#[test]
fn digests_of_files() {
    let cases: Vec<Header> = serde_json::from_str(include_str!("vectors/headers.json")).expect("vectors");
    assert!(!cases.is_empty());
    for case in cases {
        let stat = Stat {
            mode: case.mode,
            uid: case.uid,
            gid: case.gid,
            size: case.size,
            linkname: case.linkname.clone(),
            devmajor: case.devmajor,
            devminor: case.devminor,
            xattrs: decoded(&case.xattrs),
            ..Stat::default()
        };
        match (FileHash::new(&stat), case.digest, case.error) {
            (Ok(mut hash), Some(expected), None) => {
                hash.update(case.content.as_bytes());
                assert_eq!(hash.finish().as_str(), expected, "{}", case.name);
            }
            (Err(_), _, Some(_)) => {}
            (Ok(_), ..) | (Err(_), ..) => panic!("{}", case.name),
        }
    }
}

#[test]
fn checksums_after_changes() {
    let cases: Vec<Changes> = serde_json::from_str(include_str!("vectors/changes.json")).expect("vectors");
    assert!(!cases.is_empty());
    for case in cases {
        let mut updater = TreeUpdater::new(Tree::new());
        for (at, step) in case.steps.iter().enumerate() {
            for change in &step.changes {
                if change.kind == "delete" {
                    updater.remove(&change.path);
                    continue;
                }
                let stat = Stat {
                    path: change.path.clone(),
                    mode: change.mode,
                    uid: change.uid,
                    gid: change.gid,
                    linkname: change.linkname.clone(),
                    size: change.content.len() as i64,
                    xattrs: decoded(&change.xattrs),
                    ..Stat::default()
                };
                let mut hash = FileHash::new(&stat).expect("known mode");
                hash.update(change.content.as_bytes());
                updater.add(&stat, &hash.finish());
            }
            for query in &step.queries {
                ask(updater.apply(), None, query, &format!("{} step {at}", case.name));
            }
        }
    }
}
