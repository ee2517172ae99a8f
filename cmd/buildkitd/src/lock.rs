//! One daemon per state directory.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, Mode, flock};

/// Holds the state directory until it is dropped, or the process ends however it does.
pub(crate) struct RootLock {
    _file: File,
}

/// Makes the state directory, for this user only, and takes it.
pub(crate) fn lock_root(root: &Path) -> anyhow::Result<RootLock> {
    fs_err::create_dir_all(root)?;
    // Also for a directory that was there: others must not reach into snapshots.
    rustix::fs::chmod(root, Mode::from_raw_mode(0o700))
        .with_context(|| format!("failed to protect {}", root.display()))?;
    let path = root.join("buildkitd.lock");
    let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    let file = File::from(file);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(RootLock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("could not lock {}, another instance running?", path.display())
        }
        Err(error) => Err(error).with_context(|| format!("could not lock {}", path.display())),
    }
}
