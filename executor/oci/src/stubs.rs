use std::path::Path;

use buildkit_util_system::{CreateFile, Error, FileStat, Root};

/// What a mount point has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StubKind {
    /// For mounts of directories.
    Directory,
    /// For new file systems in memory. The runtime gives them the mode of what they are mounted on, so
    /// this is a directory that everybody may write to.
    Tmpfs,
    /// For mounts of anything else.
    File,
}

impl StubKind {
    /// The kind for mounts of what `path` is on the host.
    pub fn of(path: &Path) -> Self {
        if path.is_dir() { Self::Directory } else { Self::File }
    }
}

/// Mount points that a root file system did not have. They are made before the container starts and
/// removed after it, if they are still the same inode, in the same directory, and empty. A process
/// that moves, replaces or links them loses nothing and reaches nothing with that.
#[derive(Debug, Default)]
pub struct MountStubs {
    stubs: Vec<Stub>,
}

#[derive(Debug)]
struct Stub {
    directory: Root,
    /// Of the directory, before the stub was made and after.
    before: FileStat,
    after: FileStat,
    name: String,
    stub: FileStat,
    /// Whether this is the mount point itself, not a directory on the way to it.
    target: bool,
}

impl MountStubs {
    /// Makes the missing ones of these mount points, which are absolute and clean. Those below
    /// another mount of the list or of `mounted_over` are left to the runtime: they are not in the
    /// root file system. So are those that cannot be made.
    pub fn create(root: &Root, points: &[(String, StubKind)], mounted_over: &[&str]) -> Self {
        let mut stubs = Self::default();
        for (point, kind) in points {
            let covers = |other: &str| point != other && Path::new(point).starts_with(other);
            if mounted_over.iter().any(|other| covers(other)) || points.iter().any(|(other, _)| covers(other))
            {
                continue;
            }
            // The runtime reports what is wrong with a mount point in its own words.
            let _ = stubs.create_one(root, point, *kind);
        }
        stubs
    }

    fn create_one(&mut self, root: &Root, point: &str, kind: StubKind) -> Result<(), Error> {
        let real = root.real_path(point)?;
        let names: Vec<&str> =
            real.to_str().unwrap_or_default().split('/').filter(|name| !name.is_empty()).collect();
        let mut directory = root.try_clone()?;
        for (position, name) in names.iter().enumerate() {
            let target = position + 1 == names.len();
            match directory.lstat(name) {
                Err(error) if error.is_not_found() => {
                    let before = directory.stat("")?;
                    if target && kind == StubKind::File {
                        directory.create_file(name, 0o755, CreateFile::New)?;
                    } else {
                        let mode = if target && kind == StubKind::Tmpfs { 0o1777 } else { 0o755 };
                        directory.mkdir(name, mode, None)?;
                    }
                    self.stubs.push(Stub {
                        before,
                        after: directory.stat("")?,
                        stub: directory.lstat(name)?,
                        directory: directory.try_clone()?,
                        name: (*name).to_owned(),
                        target,
                    });
                }
                found => drop(found?),
            }
            if !target {
                directory = directory.sub_root(name)?;
            }
        }
        Ok(())
    }

    /// Removes the mount points, and if `recursive`, the directories that were made for them. The
    /// container has ended. The directories above get their times back: those of before the
    /// container where nothing else changed them, else those that they have.
    pub fn remove(self, recursive: bool) {
        for stub in self.stubs.into_iter().rev() {
            if stub.target || recursive {
                // What cannot be removed stays, as the process wanted it or the system is broken.
                let _ = stub.remove();
            }
        }
    }
}

impl Stub {
    fn remove(self) -> Result<(), Error> {
        let now = self.directory.lstat(&self.name)?;
        let unused =
            if now.is_dir() { self.directory.read_dir(&self.name)?.is_empty() } else { now.size == 0 };
        if !now.same_inode(&self.stub) || !unused {
            return Ok(());
        }
        let current = self.directory.stat("")?;
        self.directory.remove(&self.name)?;
        let times = if current.mtime == self.after.mtime { self.before } else { current };
        self.directory.resolve("")?.set_times(Some(times.atime), Some(times.mtime))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    fn tree() -> (tempfile::TempDir, Root, PathBuf) {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("root");
        std::fs::create_dir(&path).expect("root");
        let root = Root::open(&path).expect("open");
        (dir, root, path)
    }

    fn points(names: &[&str]) -> Vec<(String, StubKind)> {
        let kind = |name: &str| if name.ends_with(".f") { StubKind::File } else { StubKind::Directory };
        names.iter().map(|name| ((*name).to_owned(), kind(name))).collect()
    }

    #[test]
    fn only_what_was_made_and_is_unused_is_removed() {
        let (_dir, root, path) = tree();
        std::fs::create_dir(path.join("there")).expect("dir");
        let list = points(&["/there", "/a/b", "/c.f", "/used.f", "/used", "/there/x", "/dev/y"]);
        let stubs = MountStubs::create(&root, &list, &["/dev"]);
        assert!(path.join("c.f").is_file() && path.join("a/b").is_dir());
        assert!(!path.join("there/x").exists() && !path.join("dev").exists());
        std::fs::write(path.join("used.f"), "x").expect("write");
        std::fs::write(path.join("used/x"), "x").expect("write");
        stubs.remove(false);
        for (name, expect) in
            [("there", true), ("a", true), ("a/b", false), ("c.f", false), ("used.f", true), ("used/x", true)]
        {
            assert_eq!(path.join(name).exists(), expect, "{name}");
        }
    }

    #[test]
    fn recursive_removal_and_times() {
        let (_dir, root, path) = tree();
        std::fs::create_dir(path.join("top")).expect("dir");
        let time = buildkit_util_system::Timestamp { seconds: 1_000_000, nanoseconds: 5 };
        let set = || root.resolve("top").and_then(|h| h.set_times(Some(time), Some(time))).expect("times");
        set();
        MountStubs::create(&root, &points(&["/top/a/b/c.f"]), &[]).remove(true);
        assert_eq!(root.read_dir("top").expect("list"), []);
        assert_eq!(root.stat("top").expect("stat").mtime, time, "as before the container");
        let stubs = MountStubs::create(&root, &points(&["/top/a"]), &[]);
        assert_ne!(root.stat("top").expect("stat").mtime, time);
        set();
        stubs.remove(true);
        assert_eq!(root.stat("top").expect("stat").mtime, time, "as the process set them");
    }

    #[test]
    fn a1_07_mount_stub_cleanup_follows_no_symlink() {
        let (dir, root, path) = tree();
        let host = dir.path().join("host");
        std::fs::create_dir_all(host.join("b/c")).expect("canary");
        std::fs::write(host.join("c.f"), "").expect("canary");
        let stubs = MountStubs::create(&root, &points(&["/a/b/c", "/d/c.f", "/e"]), &[]);
        std::fs::remove_dir_all(path.join("a")).expect("remove");
        std::fs::remove_dir_all(path.join("d")).expect("remove");
        std::fs::remove_dir(path.join("e")).expect("remove");
        symlink(&host, path.join("a")).expect("link");
        symlink(&host, path.join("d")).expect("link");
        std::fs::create_dir(path.join("e")).expect("another directory of that name");
        stubs.remove(true);
        assert!(host.join("b/c").is_dir() && host.join("c.f").is_file());
        assert!(path.join("a").is_symlink() && path.join("d").is_symlink());
    }
}
