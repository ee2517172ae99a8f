//! Trees for tests.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod corpus;
pub mod trees;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use buildkit_util_overlay::{Dir, OPAQUE_XATTRS, Stack, is_overlay_xattr};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lgetxattr, llistxattr,
    lsetxattr, major, makedev, minor, mknodat, utimensat,
};

/// A temporary directory with trees.
pub struct Tree(tempfile::TempDir);

impl Tree {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("temp dir"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes the root of a tree.
    pub fn dir(&self, name: &str) -> Layer {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(&path).expect("mkdir");
        Layer(path)
    }
}

/// The root of a tree. All that is made in it has the same time.
#[derive(Clone)]
pub struct Layer(PathBuf);

impl Layer {
    pub fn path(&self) -> PathBuf {
        self.0.clone()
    }

    fn place(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.0.join(path);
        let parent = path.parent().expect("parent");
        if !parent.exists() {
            let mut made = parent.to_owned();
            std::fs::create_dir_all(parent).expect("mkdir");
            while made != self.0 {
                set_time(&made, 1_000_000_000);
                made.pop();
            }
        }
        path
    }

    fn done(&self, path: &Path) -> &Self {
        set_time(path, 1_000_000_000);
        let mut above = path.parent().expect("parent").to_owned();
        while above != self.0 {
            set_time(&above, 1_000_000_000);
            above.pop();
        }
        self
    }

    pub fn mkdir(&self, path: impl AsRef<Path>) -> &Self {
        let path = self.place(path);
        std::fs::create_dir(&path).expect("mkdir");
        self.done(&path)
    }

    pub fn file(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.place(path);
        std::fs::write(&path, content).expect("write");
        self.done(&path)
    }

    pub fn symlink(&self, path: impl AsRef<Path>, target: &str) -> &Self {
        let path = self.place(path);
        std::os::unix::fs::symlink(target, &path).expect("symlink");
        self.done(&path)
    }

    pub fn hard_link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> &Self {
        let path = self.place(path);
        std::fs::hard_link(self.0.join(existing), &path).expect("link");
        self.done(&path)
    }

    pub fn node(&self, path: impl AsRef<Path>, kind: FileType, major: u32, minor: u32) -> &Self {
        let path = self.place(path);
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o640), makedev(major, minor)).expect("mknod");
        self.done(&path)
    }

    pub fn whiteout(&self, path: impl AsRef<Path>) -> &Self {
        self.node(path, FileType::CharacterDevice, 0, 0)
    }

    pub fn opaque(&self, path: &str) -> &Self {
        self.xattr(path, OPAQUE_XATTRS[0], b"y")
    }

    pub fn xattr(&self, path: impl AsRef<Path>, name: &str, value: &[u8]) -> &Self {
        lsetxattr(self.0.join(path), name, value, XattrFlags::empty()).expect("setxattr");
        self
    }

    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> &Self {
        rustix::fs::chmod(self.0.join(path), Mode::from_raw_mode(mode)).expect("chmod");
        self
    }

    pub fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> &Self {
        let path = self.0.join(path);
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).expect("chown");
        self
    }

    pub fn time(&self, path: impl AsRef<Path>, seconds: i64) -> &Self {
        set_time(&self.0.join(path), seconds);
        self
    }
}

fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("utimens");
}

/// All that a layer says of the files of a tree, one line each. Times are there if they are not the usual one, but
/// not those of directories.
pub fn listing(stack: &Stack) -> Vec<String> {
    let mut lines = Vec::new();
    list(&stack.root().expect("root"), Path::new(""), &mut lines);
    lines
}

fn list(dir: &Dir, path: &Path, lines: &mut Vec<String>) {
    for (name, node) in dir.entries().expect("entries") {
        let path = path.join(name);
        let stat = rustix::fs::lstat(&node.path).expect("lstat");
        let (kind, content) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => ('-', std::fs::read(&node.path).expect("read")),
            FileType::Symlink => {
                let target = std::fs::read_link(&node.path).expect("readlink");
                ('l', target.as_os_str().as_bytes().to_vec())
            }
            FileType::Directory => ('d', Vec::new()),
            FileType::Fifo => ('p', Vec::new()),
            FileType::Socket => ('s', Vec::new()),
            kind => {
                let device = format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
                (if kind == FileType::CharacterDevice { 'c' } else { 'b' }, device.into_bytes())
            }
        };
        let mut line = format!(
            "{} {kind}{:o} {}:{}",
            short(path.as_os_str().as_bytes()),
            stat.st_mode & 0o7777,
            stat.st_uid,
            stat.st_gid
        );
        if !content.is_empty() {
            line += &format!(" [{}]", short(&content));
        }
        if node.dir.is_none() && stat.st_nlink > 1 {
            line += &format!(" x{}", stat.st_nlink);
        }
        if node.dir.is_none() && (stat.st_mtime, stat.st_mtime_nsec) != (1_000_000_000, 0) {
            line += &format!(" at {}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
        }
        for (name, value) in xattrs(&node.path) {
            line += &format!(" {name}={}", short(&value));
        }
        lines.push(line);
        if let Some(dir) = &node.dir {
            list(dir, &path, lines);
        }
    }
}

fn short(text: &[u8]) -> String {
    let text = text.escape_ascii().to_string();
    if text.len() <= 80 { text } else { format!("{}... ({})", &text[..20], text.len()) }
}

/// Extended attributes that are not overlayfs's own.
fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = llistxattr(path, &mut names[..]).expect("listxattr");
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut all = Vec::new();
    for name in names.filter(|name| !is_overlay_xattr(name)) {
        let mut value = vec![0; 4096];
        let length = lgetxattr(path, name, &mut value[..]).expect("getxattr");
        value.truncate(length);
        all.push((String::from_utf8_lossy(name).into_owned(), value));
    }
    all.sort();
    all
}
