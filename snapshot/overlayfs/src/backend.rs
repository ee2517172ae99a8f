use std::io;
use std::path::{Path, PathBuf};

use buildkit_snapshot::{Backend, Error, Layered, LocalMounter, Mount, MountKind};
use buildkit_util_system::in_user_namespace;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};

/// Snapshots on overlayfs.
pub type OverlaySnapshotter = Layered<OverlayBackend>;

/// Options that keep layers readable on their own; the kernel's defaults differ between
/// distributions.
const FIXED_OPTIONS: [(&str, &str); 3] =
    [("index", "index=off"), ("redirect_dir", "redirect_dir=off"), ("metacopy", "metacopy=off")];

/// How snapshots lie over each other with overlayfs.
#[derive(Debug)]
pub struct OverlayBackend {
    options: Vec<String>,
    userxattr: bool,
}

/// Opens the snapshots in `root`. Blocks.
///
/// # Errors
/// When overlayfs does not work there, or the directory cannot be used.
pub fn open(root: impl Into<PathBuf>) -> Result<OverlaySnapshotter, Error> {
    let root = root.into();
    let backend = OverlayBackend::detect(&root)?;
    Layered::open(root, backend)
}

/// Whether overlayfs works in a directory, by trying. Leaves nothing behind.
///
/// # Errors
/// Why it does not.
pub fn is_supported(root: &Path) -> Result<(), Error> {
    OverlayBackend::detect(root).map(drop)
}

impl OverlayBackend {
    fn detect(root: &Path) -> Result<Self, Error> {
        let mut options: Vec<String> = FIXED_OPTIONS
            .iter()
            .filter(|(parameter, _)| Path::new("/sys/module/overlay/parameters").join(parameter).exists())
            .map(|(_, option)| (*option).to_owned())
            .collect();
        let userxattr = in_user_namespace();
        if userxattr {
            options.push("userxattr".to_owned());
        }
        let backend = Self { options, userxattr };
        backend.try_mount(root)?;
        Ok(backend)
    }

    /// Makes an overlay of two layers and a file in it.
    fn try_mount(&self, root: &Path) -> Result<(), Error> {
        let failed = |source| Error::Io { action: format!("use overlayfs in `{}`", root.display()), source };
        let trial = root.join("trial");
        let attempt = || -> Result<(), Error> {
            let mounter = LocalMounter::open(trial.join("mount"))?;
            for layer in ["1", "2"] {
                fs_err::create_dir_all(trial.join(layer).join("fs")).map_err(failed)?;
            }
            fs_err::create_dir_all(trial.join("2/work")).map_err(failed)?;
            let guard = mounter.mount(&self.mount(&trial.join("2"), &[trial.join("1")], false))?;
            fs_err::write(guard.path().join("file"), b"").map_err(failed)
        };
        let result = attempt();
        // The mount is gone here; leftovers of an earlier trial are removed with it.
        match fs_err::remove_dir_all(&trial) {
            Err(error) if result.is_ok() => Err(failed(error)),
            _ => result,
        }
    }
}

impl Backend for OverlayBackend {
    fn name(&self) -> &str {
        "overlayfs"
    }

    fn adopt(&self, dir: &Path) -> io::Result<()> {
        match rustix::fs::mkdir(dir.join("work"), Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, dir: &Path, parents: &[PathBuf]) -> io::Result<()> {
        let content = dir.join("fs");
        rustix::fs::mkdir(&content, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)?;
        let mut mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        if let Some(parent) = parents.first() {
            // The kernel shows the root of the topmost layer.
            let stat = rustix::fs::lstat(parent.join("fs"))?;
            mode = Mode::from_raw_mode(stat.st_mode);
            if (stat.st_uid, stat.st_gid) != (0, 0) {
                let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                rustix::fs::chownat(CWD, &content, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            rustix::fs::mkdir(dir.join("work"), Mode::RWXU)?;
        }
        // After mkdir, because the umask of the process may have taken bits away.
        rustix::fs::chmod(&content, mode)?;
        Ok(())
    }

    fn mount(&self, dir: &Path, parents: &[PathBuf], readonly: bool) -> Mount {
        let content = |dir: &PathBuf| dir.join("fs");
        if parents.is_empty() {
            return Mount { kind: MountKind::Bind, source: dir.join("fs"), readonly };
        }
        let below = parents.iter().map(content);
        let kind = if readonly {
            MountKind::Overlay {
                lower: std::iter::once(dir.join("fs")).chain(below).collect(),
                upper: None,
                work: None,
                options: self.options.clone(),
            }
        } else {
            MountKind::Overlay {
                lower: below.collect(),
                upper: Some(dir.join("fs")),
                work: Some(dir.join("work")),
                options: self.options.clone(),
            }
        };
        Mount { kind, source: PathBuf::new(), readonly }
    }

    fn is_stacked(&self) -> bool {
        true
    }

    fn userxattr(&self) -> bool {
        self.userxattr
    }
}
