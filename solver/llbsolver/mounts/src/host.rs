//! Files and sockets of the host for containers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buildkit_session_sshforward::AgentSocket;
use buildkit_util_system::mount::{mount_memory, mounts_below, unmount};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};

use crate::Error;

/// A file or socket that lasts as long as this.
pub struct HostMount {
    kind: Kind,
}

enum Kind {
    Secret(SecretFile),
    Agent(AgentSocket),
}

impl HostMount {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match &self.kind {
            Kind::Secret(secret) => &secret.path,
            Kind::Agent(socket) => socket.path(),
        }
    }

    pub(crate) fn secret(secret: SecretFile) -> Self {
        Self { kind: Kind::Secret(secret) }
    }

    pub(crate) fn agent(socket: AgentSocket) -> Self {
        Self { kind: Kind::Agent(socket) }
    }
}

/// A tmpfs that holds the secrets of all steps. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct SecretStore {
    directory: PathBuf,
}

/// Owner and permissions of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl SecretStore {
    /// Mounts the tmpfs at `directory`, after taking away what an earlier daemon left there.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, Error> {
        let action = "mount the file system for secrets";
        let io = |source| Error::Io { action, source };
        let system = |error: buildkit_util_system::Error| Error::Io { action, source: error.into() };
        fs::create_dir_all(&directory).map_err(io)?;
        let directory = fs::canonicalize(&directory).map_err(io)?;
        for point in mounts_below(&directory).map_err(system)? {
            unmount(point).map_err(system)?;
        }
        mount_memory(&directory, 0o711).map_err(system)?;
        Ok(Self { directory })
    }

    /// Writes a secret to a file that only its owner finds.
    pub(crate) fn write(self: &Arc<Self>, data: &[u8], access: Access) -> Result<SecretFile, Error> {
        let io = |source| Error::Io { action: "write a secret", source };
        let path = self.directory.join(buildkit_identity::new_id());
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io)?;
        // From here on the file goes with the value.
        let secret = SecretFile { path, _store: self.clone() };
        (&file).write_all(data).map_err(io)?;
        fchown(&file, Some(Uid::from_raw(access.uid)), Some(Gid::from_raw(access.gid)))
            .map_err(|e| io(e.into()))?;
        fchmod(&file, Mode::from_raw_mode(access.mode & 0o777)).map_err(|e| io(e.into()))?;
        Ok(secret)
    }
}

impl Drop for SecretStore {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.directory) {
            tracing::warn!(%error, "file system of secrets not unmounted");
        }
    }
}

/// A secret in a file. Removed when dropped.
#[derive(Debug)]
pub(crate) struct SecretFile {
    path: PathBuf,
    _store: Arc<SecretStore>,
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "secret not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn secrets_are_in_memory_and_go_with_their_value() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("secrets");
        let store = Arc::new(SecretStore::open(path.clone()).expect("open"));
        let magic = rustix::fs::statfs(&path).expect("statfs").f_type;
        assert_eq!(magic, 0x0102_1994, "a tmpfs");
        let secret = store.write(b"s3cret", Access { uid: 5, gid: 6, mode: 0o100_440 }).expect("write");
        let file = secret.path.clone();
        let meta = std::fs::metadata(&file).expect("file");
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (5, 6, 0o440));
        assert_eq!(std::fs::read(&file).expect("read"), b"s3cret");
        drop(secret);
        assert!(!file.exists());
        // As after a crash: the mount is still there.
        let again = SecretStore::open(path.clone()).expect("open again");
        assert_eq!(mounts_below(&path).expect("mounts").len(), 1);
        drop((store, again));
        assert!(mounts_below(&path).expect("mounts").is_empty());
    }
}
