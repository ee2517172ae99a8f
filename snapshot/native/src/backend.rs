use std::io;
use std::path::{Path, PathBuf};

use buildkit_snapshot::{Backend, Error, Layered, Mount, MountKind, copy_tree};
use rustix::fs::Mode;

/// Snapshots as plain copies.
pub type NativeSnapshotter = Layered<NativeBackend>;

/// Copies the parent into each snapshot.
#[derive(Debug)]
pub struct NativeBackend(());

/// Opens the snapshots in `root`. Blocks.
///
/// # Errors
/// When the directory cannot be used.
pub fn open(root: impl Into<PathBuf>) -> Result<NativeSnapshotter, Error> {
    Layered::open(root, NativeBackend(()))
}

impl Backend for NativeBackend {
    fn name(&self) -> &str {
        "native"
    }

    fn create(&self, dir: &Path, parents: &[PathBuf]) -> io::Result<()> {
        let content = dir.join("fs");
        fs_err::create_dir(&content)?;
        // The umask of the process may have taken bits away.
        rustix::fs::chmod(&content, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)?;
        match parents.first() {
            Some(parent) => copy_tree(&parent.join("fs"), &content),
            None => Ok(()),
        }
    }

    fn mount(&self, dir: &Path, _parents: &[PathBuf], readonly: bool) -> Mount {
        Mount { kind: MountKind::Bind, source: dir.join("fs"), readonly }
    }

    fn is_stacked(&self) -> bool {
        false
    }
}
