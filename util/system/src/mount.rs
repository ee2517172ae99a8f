//! Mounts of the host: overlay, bind, tmpfs, and what is mounted where.

use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::{Error, Handle};

/// Room of the mount options in `mount(2)`: a page, with some left for what the kernel adds.
const MAX_DATA: usize = 4096 - 512;

/// What an overlay is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Read-only layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go, with the kernel's work directory.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// More options in the kernel's words, such as `index=off`.
    pub options: Vec<String>,
    /// Whether nothing may be written.
    pub readonly: bool,
}

/// Mounts an overlay at `target`, of any number of layers that the kernel takes.
pub fn mount_overlay(overlay: &Overlay, target: impl AsRef<Path>) -> Result<(), Error> {
    let target = target.as_ref();
    let fail = |e: Errno| Error::io("mount the overlay at", target, e);
    if overlay.options.iter().any(|option| option.contains([',', '\0'])) {
        return Err(fail(Errno::INVAL));
    }
    let flags = if overlay.readonly { MountFlags::RDONLY } else { MountFlags::empty() };
    let plain = |path: &Path| Ok(path.as_os_str().to_owned());
    let mut data = overlay_data(overlay, plain).map_err(fail)?;
    // Descriptors stand for the directories where their paths are too long for one page, or have
    // characters that mean something in the options.
    let mut held = Vec::new();
    let special = |path: &PathBuf| path.as_os_str().as_bytes().iter().any(|byte| b",:\\".contains(byte));
    let upper = overlay.upper.iter().flat_map(|(upper, work)| [upper, work]);
    if data.len() > MAX_DATA || overlay.lower.iter().chain(upper).any(special) {
        let short = |path: &Path| {
            let fd =
                rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let short = OsString::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            held.push(fd);
            Ok(short)
        };
        data = overlay_data(overlay, short).map_err(fail)?;
    }
    let data = CString::new(data).map_err(|_| fail(Errno::INVAL))?;
    let result =
        rustix::mount::mount(c"overlay", target, c"overlay", flags, Some(data.as_c_str())).map_err(fail);
    drop::<Vec<OwnedFd>>(held);
    result
}

fn overlay_data(
    overlay: &Overlay,
    mut name: impl FnMut(&Path) -> rustix::io::Result<OsString>,
) -> rustix::io::Result<Vec<u8>> {
    let mut data = b"lowerdir=".to_vec();
    for (position, lower) in overlay.lower.iter().enumerate() {
        if position > 0 {
            data.push(b':');
        }
        data.extend(name(lower)?.as_bytes());
    }
    if let Some((upper, work)) = &overlay.upper {
        data.extend(b",upperdir=");
        data.extend(name(upper)?.as_bytes());
        data.extend(b",workdir=");
        data.extend(name(work)?.as_bytes());
    }
    for option in &overlay.options {
        data.push(b',');
        data.extend(option.as_bytes());
    }
    Ok(data)
}

/// Makes the directory or file `source` visible at `target`, with the mounts below it.
pub fn mount_bind(source: impl AsRef<Path>, target: impl AsRef<Path>, readonly: bool) -> Result<(), Error> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let fail = |e: Errno| Error::io("bind at", target, e);
    rustix::mount::mount_bind_recursive(source, target).map_err(fail)?;
    if readonly {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        if let Err(e) = rustix::mount::mount_remount(target, flags, c"") {
            drop(unmount(target));
            return Err(fail(e));
        }
    }
    Ok(())
}

/// Makes the inode of a handle visible at `target`, which is a directory if the inode is one, else
/// a file. Names that change meanwhile make no difference.
pub fn mount_handle(handle: &Handle, target: impl AsRef<Path>, readonly: bool) -> Result<(), Error> {
    mount_bind(handle.proc_path(), target, readonly)
}

/// Mounts a tmpfs with options in the kernel's words, each without a comma.
pub fn mount_tmpfs(target: impl AsRef<Path>, options: &[String]) -> Result<(), Error> {
    let target = target.as_ref();
    let fail = |e: Errno| Error::io("mount the tmpfs at", target, e);
    if options.iter().any(|option| option.contains(',')) {
        return Err(fail(Errno::INVAL));
    }
    let data = CString::new(options.join(",")).map_err(|_| fail(Errno::INVAL))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(c"tmpfs", target, c"tmpfs", flags, Some(data.as_c_str())).map_err(fail)
}

/// Mounts a tmpfs with these permissions whose content goes to no disk: where the kernel lets us (Linux 6.4), not even
/// to the swap.
pub fn mount_memory(target: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
    let target = target.as_ref();
    let mode = format!("mode={mode:04o}");
    mount_tmpfs(target, &["noswap".to_owned(), mode.clone()]).or_else(|_| mount_tmpfs(target, &[mode]))
}

/// Takes the mount at `target` out of the tree at once, with all below it; the kernel ends it when
/// its last user has gone. Where nothing is mounted, nothing happens. Links are not followed.
pub fn unmount(target: impl AsRef<Path>) -> Result<(), Error> {
    let target = target.as_ref();
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::io("unmount", target, e)),
    }
}

/// Mount points at or below `directory`, deepest and latest first: the order to unmount them in.
pub fn mounts_below(directory: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
    let table = "/proc/self/mountinfo";
    let content = std::fs::read(table).map_err(|e| Error::io("read", table, e))?;
    let mut points: Vec<PathBuf> = content
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape)
        .filter(|point| point.starts_with(directory.as_ref()))
        .collect();
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(points)
}

/// The kernel writes white space and backslashes in mount points as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_of_many_layers_and_odd_names() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().expect("directory");
        let path = |name: &str| dir.path().join(name);
        let long = "n".repeat(60);
        let mut lower = Vec::new();
        for layer in 0..100 {
            let layer = path(&format!("{long}, :\\{layer}"));
            std::fs::create_dir(&layer).expect("layer");
            std::fs::write(layer.join(format!("f{}", lower.len())), "x").expect("file");
            lower.push(layer);
        }
        for name in ["up", "work", "at point"] {
            std::fs::create_dir(path(name)).expect(name);
        }
        let overlay = Overlay { lower, upper: Some((path("up"), path("work"))), ..Overlay::default() };
        mount_overlay(&overlay, path("at point")).expect("mount");
        assert_eq!(mounts_below(dir.path()).expect("table"), [path("at point")]);
        assert_eq!(std::fs::read_dir(path("at point")).expect("list").count(), 100);
        std::fs::write(path("at point/new"), "y").expect("write");
        unmount(path("at point")).expect("unmount");
        unmount(path("at point")).expect("nothing to unmount");
        assert!(path("up/new").exists());
        assert!(mounts_below(dir.path()).expect("table").is_empty());
        let bad = Overlay { options: vec!["index=off,upperdir=/".into()], ..overlay };
        assert!(mount_overlay(&bad, path("at point")).is_err(), "an option must not smuggle in others");
    }

    #[test]
    fn read_only_binds() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().expect("directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), "1").expect("file");
        std::fs::write(path("b"), "").expect("file");
        let root = crate::Root::open(dir.path()).expect("root");
        mount_handle(&root.resolve("a").expect("handle"), path("b"), true).expect("bind");
        assert_eq!(std::fs::read_to_string(path("b")).expect("read"), "1");
        assert!(std::fs::write(path("b"), "2").is_err());
        unmount(path("b")).expect("unmount");
    }
}
