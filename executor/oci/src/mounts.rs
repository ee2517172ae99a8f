use buildkit_executor::Error;
use buildkit_util_system::{FileKind, Root, path};

use crate::spec::SpecMount;

/// Trees that the runtime mounts for the kernel. What hides or replaces a part of them disarms
/// masked paths and security modules.
const RESERVED: [&str; 2] = ["/proc", "/sys"];

/// Directories of the root file system that the runtime fills by their names, before anything confines it: runc
/// makes nodes and links in `/dev` wherever a link leads, on the machine as well.
const FILLED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Refuses root file systems in which the runtime would write elsewhere.
///
/// # Errors
/// [`Error::Invalid`] when `/dev`, `/proc` or `/sys` is a symbolic link.
pub fn check_root(root: &Root) -> Result<(), Error> {
    for name in FILLED {
        let stat = root.resolve_no_follow(name).and_then(|handle| handle.stat());
        match stat {
            Ok(stat) if stat.kind == FileKind::Symlink => {
                return Err(Error::Invalid(format!("`{name}` of the root file system is a symbolic link")));
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                return Err(Error::Io {
                    action: format!("look at `{name}` of the root file system"),
                    source: error.into(),
                });
            }
        }
    }
    Ok(())
}

/// Where a mount for `dest` goes: absolute and clean; relative ones start at `cwd`.
///
/// # Errors
/// [`Error::Invalid`] for the root itself and for all that is in `/proc` or `/sys`, also by way of
/// symbolic links of the root file system.
pub fn check_destination(root: &Root, cwd: &str, dest: &str) -> Result<String, Error> {
    let absolute = if path::is_abs(dest) { path::clean(dest) } else { path::join(["/", cwd, dest]) };
    if absolute == "/" {
        return Err(Error::Invalid(format!("Mount destination `{dest}` is the root directory")));
    }
    let real = root.real_path(&absolute).map_err(|error| Error::Io {
        action: format!("find the mount destination `{dest}`"),
        source: error.into(),
    })?;
    for reserved in RESERVED {
        if real.starts_with(reserved) || std::path::Path::new(&absolute).starts_with(reserved) {
            return Err(Error::Invalid(format!("Mount destination `{dest}` is inside `{reserved}`")));
        }
    }
    Ok(absolute)
}

pub(crate) fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> SpecMount {
    SpecMount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

/// The mounts of every container, those of containerd without `/run`, which images fill themselves.
/// `writable` is for the insecure mode.
pub(crate) fn default_mounts(writable: bool) -> Vec<SpecMount> {
    let access = if writable { "rw" } else { "ro" };
    let strict = ["nosuid", "noexec", "nodev"];
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    vec![
        mount("/proc", "proc", "proc", &strict),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &strict),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[access, "nosuid", "noexec", "nodev"]),
    ]
}

/// A later mount takes the place of an earlier one with the same destination.
pub(crate) fn dedup(mounts: Vec<SpecMount>) -> Vec<SpecMount> {
    let mut kept: Vec<SpecMount> = Vec::with_capacity(mounts.len());
    for mount in mounts {
        match kept.iter_mut().find(|other| other.destination == mount.destination) {
            Some(place) => *place = mount,
            None => kept.push(mount),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_05_nothing_is_mounted_over_proc_and_sys() {
        let dir = tempfile::tempdir().expect("directory");
        let root = Root::open(dir.path()).expect("root");
        root.symlink("/proc", "p").expect("link");
        root.symlink("../../sys/fs", "s").expect("link");
        root.symlink("loop", "loop").expect("link");
        for dest in [
            "/",
            ".",
            "/proc",
            "/sys",
            "/proc/self/attr",
            "/x/../proc/y",
            "/p",
            "p/self",
            "/s/cgroup",
            "loop",
        ] {
            assert!(check_destination(&root, "/", dest).is_err(), "{dest}");
        }
        assert!(check_destination(&root, "/proc", "x").is_err());
        for (cwd, dest, expect) in [
            ("/", "/procs", "/procs"),
            ("/src", "a/../b", "/src/b"),
            ("/src", "/a//b/", "/a/b"),
            ("", "c", "/c"),
        ] {
            assert_eq!(check_destination(&root, cwd, dest).expect(dest), expect);
        }
    }

    #[test]
    fn a2_03_a2_05_links_are_not_filled() {
        for name in ["dev", "proc", "sys"] {
            let dir = tempfile::tempdir().expect("directory");
            let root = Root::open(dir.path()).expect("root");
            check_root(&root).expect("the runtime makes them");
            root.mkdir_all(name, 0o755, None).expect("directory");
            check_root(&root).expect("a directory");
            root.remove(name).expect("removes");
            for to in ["/x", "x", "..", "/nowhere"] {
                root.symlink(to, name).expect("link");
                let error = check_root(&root).expect_err(to).to_string();
                assert!(error.contains(&format!("`/{name}`")) && error.contains("symbolic link"), "{error}");
                root.remove(name).expect("removes");
            }
        }
    }

    #[test]
    fn later_mounts_replace() {
        let mounts = vec![mount("/a", "1", "", &[]), mount("/b", "2", "", &[]), mount("/a", "3", "", &[])];
        let kinds: Vec<String> = dedup(mounts).into_iter().map(|m| m.kind).collect();
        assert_eq!(kinds, ["3", "2"]);
    }
}
