use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buildkit_util_appcontext::spawn_thread;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_bind,
    mount_change, mount_remount, move_mount, unmount,
};
use rustix::thread::UnshareFlags;

use crate::{Error, Mount, MountKind};

/// mount(2) takes one page of options.
const OPTIONS_LIMIT: usize = 4000;

/// Makes mounts visible to this process, each in a directory of its own below a root.
///
/// Cheap to clone. The calls block for as long as the system calls take.
#[derive(Clone, Debug)]
pub struct LocalMounter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    next: AtomicU64,
}

/// A directory (or file) where a mount can be seen. Dropping it unmounts lazily.
#[derive(Debug)]
#[must_use = "dropping the guard unmounts"]
pub struct MountGuard {
    path: PathBuf,
    mounted: bool,
    is_dir: bool,
    /// Work directory of a volatile overlay.
    work: Option<PathBuf>,
}

impl LocalMounter {
    /// A mounter in `root`, which is made if need be. Mounts and directories that a dead process
    /// left there are removed.
    ///
    /// # Errors
    /// When the directory cannot be made or cleaned.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        let failed =
            |source| Error::Io { action: format!("open the mount directory `{}`", root.display()), source };
        fs_err::create_dir_all(&root).map_err(failed)?;
        rustix::fs::chmod(&root, rustix::fs::Mode::RWXU).map_err(|error| failed(error.into()))?;
        let root = fs_err::canonicalize(&root).map_err(failed)?;
        for stale in mounts_below(&root).map_err(failed)?.into_iter().rev() {
            tracing::debug!(path = %stale.display(), "removing a stale mount");
            unmount(&stale, UnmountFlags::DETACH).map_err(|error| failed(error.into()))?;
        }
        for entry in fs_err::read_dir(&root).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // Never recursively: something may be mounted below that was not seen.
            let removed = if path.is_dir() { fs_err::remove_dir(&path) } else { fs_err::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(%error, "stale mount point not removed");
            }
        }
        Ok(Self { inner: Arc::new(Inner { root, next: AtomicU64::new(0) }) })
    }

    /// Makes a mount visible. A bind mount that may be written is its source: nothing is mounted.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mount(&self, what: &Mount) -> Result<MountGuard, Error> {
        match &what.kind {
            MountKind::Bind if !what.readonly => Ok(MountGuard::unmounted(what.source.clone())),
            _ => self.mount_new(what),
        }
    }

    /// As [`mount`](Self::mount), for a caller that promises to read only: no bind mount is made.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mount_to_read(&self, what: &Mount) -> Result<MountGuard, Error> {
        match &what.kind {
            MountKind::Bind => Ok(MountGuard::unmounted(what.source.clone())),
            _ => self.mount_new(what),
        }
    }

    fn mount_new(&self, what: &Mount) -> Result<MountGuard, Error> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.root.join(number.to_string());
        let is_dir = what.kind != MountKind::Bind || !what.source.is_file();
        let made = if is_dir { fs_err::create_dir(&path) } else { fs_err::write(&path, b"") };
        let work = made.and_then(|()| mount_at(what, &path)).map_err(|source| {
            let _ = if is_dir { fs_err::remove_dir(&path) } else { fs_err::remove_file(&path) };
            Error::Io { action: format!("mount a snapshot at `{}`", path.display()), source }
        })?;
        Ok(MountGuard { path, mounted: true, is_dir, work })
    }
}

impl MountGuard {
    fn unmounted(path: PathBuf) -> Self {
        Self { path, mounted: false, is_dir: true, work: None }
    }

    /// Where to look.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something was mounted; otherwise the path is the source itself.
    pub fn is_mounted(&self) -> bool {
        self.mounted
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            tracing::warn!(%error, path = %self.path.display(), "not unmounted");
            return;
        }
        if let Some(work) = &self.work {
            forget_volatile(work);
        }
        let removed =
            if self.is_dir { fs_err::remove_dir(&self.path) } else { fs_err::remove_file(&self.path) };
        if let Err(error) = removed {
            tracing::warn!(%error, "mount point not removed");
        }
    }
}

/// Removes the mark that a volatile overlay leaves in its work directory: the kernel refuses to mount
/// it again, because what was written may be lost with the power. Here it may be.
pub fn forget_volatile(work: &Path) {
    let mark = work.join("work/incompat");
    match fs_err::remove_dir_all(&mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(%error, "mark of a volatile overlay stays");
        }
        _ => {}
    }
}

/// Mounts at an existing directory (or file, for a bind mount of a file). Returns the work directory
/// of a volatile overlay.
fn mount_at(what: &Mount, target: &Path) -> io::Result<Option<PathBuf>> {
    match &what.kind {
        MountKind::Bind => {
            mount_bind(&what.source, target)?;
            mount_change(target, MountPropagationFlags::PRIVATE)?;
            if what.readonly {
                let flags = MountFlags::BIND | MountFlags::RDONLY;
                if let Err(error) = mount_remount(target, flags, c"") {
                    let _ = unmount(target, UnmountFlags::DETACH);
                    return Err(error.into());
                }
            }
        }
        MountKind::Overlay { lower, upper, work, options } => {
            let mut overlay = Overlay { lower, upper: upper.as_deref(), work: work.as_deref(), options };
            let Some(work) = work.as_ref().filter(|_| !what.readonly) else {
                overlay.mount(target, what.readonly)?;
                return Ok(None);
            };
            forget_volatile(work);
            // Otherwise the end of the mount waits until all of the file system is on disk. Linux
            // before 5.10 does not know the word.
            let with_volatile = [options.as_slice(), &["volatile".to_owned()]].concat();
            overlay.options = &with_volatile;
            if overlay.mount(target, false).is_ok() {
                return Ok(Some(work.clone()));
            }
            overlay.options = options;
            overlay.mount(target, false)?;
        }
        MountKind::Tmpfs { options } => {
            let options = CString::new(options.join(","))?;
            mount("tmpfs", target, "tmpfs", flags(what.readonly), options.as_c_str())?;
        }
    }
    Ok(None)
}

fn flags(readonly: bool) -> MountFlags {
    if readonly { MountFlags::RDONLY } else { MountFlags::empty() }
}

struct Overlay<'a> {
    lower: &'a [PathBuf],
    upper: Option<&'a Path>,
    work: Option<&'a Path>,
    options: &'a [String],
}

impl Overlay<'_> {
    fn mount(&self, target: &Path, readonly: bool) -> io::Result<()> {
        let text = self.option_text(None);
        if text.len() <= OPTIONS_LIMIT {
            return mount_text(text, target, readonly);
        }
        // Linux 6.7 takes the layers one by one; before, they must fit into one page, which paths
        // relative to their common directory do much longer.
        match self.mount_one_by_one(target, readonly) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "overlay not mounted layer by layer");
                self.mount_relative(target, readonly)
            }
        }
    }

    fn option_text(&self, relative_to: Option<&Path>) -> Vec<u8> {
        let short = |path: &Path| -> OsString {
            let path = relative_to.and_then(|base| path.strip_prefix(base).ok()).unwrap_or(path);
            escape(path.as_os_str())
        };
        let mut text = b"lowerdir=".to_vec();
        for (number, layer) in self.lower.iter().enumerate() {
            if number > 0 {
                text.push(b':');
            }
            text.extend_from_slice(short(layer).as_bytes());
        }
        for (key, path) in [("upperdir", self.upper), ("workdir", self.work)] {
            if let Some(path) = path {
                text.extend_from_slice(format!(",{key}=").as_bytes());
                text.extend_from_slice(short(path).as_bytes());
            }
        }
        for option in self.options {
            text.push(b',');
            text.extend_from_slice(option.as_bytes());
        }
        text
    }

    fn mount_one_by_one(&self, target: &Path, readonly: bool) -> io::Result<()> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for layer in self.lower {
            fsconfig_set_string(&fs, "lowerdir+", layer)?;
        }
        for (key, path) in [("upperdir", self.upper), ("workdir", self.work)] {
            if let Some(path) = path {
                fsconfig_set_string(&fs, key, path)?;
            }
        }
        for option in self.options {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&fs, key, value)?,
                None => fsconfig_set_flag(&fs, option.as_str())?,
            }
        }
        fsconfig_create(&fs)?;
        let attributes = if readonly {
            rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY
        } else {
            rustix::mount::MountAttrFlags::empty()
        };
        let made = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        move_mount(&made, "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(())
    }

    /// Mounts from a thread whose working directory is the directory above all layers.
    fn mount_relative(&self, target: &Path, readonly: bool) -> io::Result<()> {
        let mut paths = self.lower.iter().map(PathBuf::as_path).chain(self.upper).chain(self.work);
        let Some(first) = paths.next() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let mut base = first.to_owned();
        for path in paths {
            while !path.starts_with(&base) {
                base.pop();
            }
        }
        let text = self.option_text(Some(&base));
        let target = target.to_owned();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let work = move || -> io::Result<()> {
            // SAFETY: only the working directory of this thread, which nobody else uses, becomes its
            // own; file descriptors stay shared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
            rustix::process::chdir(&base)?;
            mount_text(text, &target, readonly)
        };
        spawn_thread("overlay-mount", move || {
            // The caller waits for it.
            let _ = sender.send(work());
        })?;
        receiver.recv().unwrap_or_else(|_| Err(io::Error::other("the mounting thread died")))
    }
}

fn mount_text(text: Vec<u8>, target: &Path, readonly: bool) -> io::Result<()> {
    let text = CString::new(text)?;
    mount("overlay", target, "overlay", flags(readonly), text.as_c_str())?;
    Ok(())
}

fn escape(path: &OsStr) -> OsString {
    let mut out = Vec::with_capacity(path.len());
    for byte in path.as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    OsString::from_vec(out)
}

/// Mount points below a directory, outer ones first, from proc(5) mountinfo.
fn mounts_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs_err::read("/proc/self/mountinfo")?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape_octal(field))))
        .filter(|path| path.starts_with(root) && path != root)
        .collect())
}

fn unescape_octal(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            digits.iter().try_fold(0u32, |value, digit| match digit {
                b'0'..=b'7' => Some(value * 8 + u32::from(digit - b'0')),
                _ => None,
            })
        });
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_fields_are_unescaped() {
        for (field, expect) in
            [("/a", "/a"), ("/a\\040b", "/a b"), ("/a\\134", "/a\\"), ("\\9", "\\9"), ("\\", "\\")]
        {
            assert_eq!(unescape_octal(field.as_bytes()), expect.as_bytes());
        }
    }
}
