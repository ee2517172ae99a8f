//! Network namespaces that are kept as mounts.

use std::io;
use std::path::{Path, PathBuf};

use buildkit_util_appcontext::spawn_thread;
use buildkit_util_system::mount::{mount_bind, unmount};
use fs_err as fs;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::sync::oneshot;

use crate::{Error, netlink};

/// What `statfs(2)` says of a namespace.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// The directory of all namespaces of one provider, a directory for each.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    directory: PathBuf,
}

impl Namespaces {
    pub(crate) fn open(directory: PathBuf) -> Result<Self, Error> {
        let action = format!("create `{}`", directory.display());
        fs::create_dir_all(&directory)
            .and_then(|()| private(&directory))
            // Plugins are told absolute paths.
            .and_then(|()| fs::canonicalize(&directory))
            .map(|directory| Self { directory })
            .map_err(Error::io(action))
    }

    /// Ids of those that are there.
    pub(crate) fn ids(&self) -> Result<Vec<String>, Error> {
        let io = |error| Error::io(format!("read `{}`", self.directory.display()))(error);
        let entries = fs::read_dir(&self.directory).map_err(io)?;
        let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
        entries.filter_map(|entry| name(entry).transpose()).collect::<Result<_, _>>().map_err(io)
    }

    /// Where the namespace of this id is mounted.
    pub(crate) fn path(&self, id: &str) -> PathBuf {
        self.directory.join(id).join("ns")
    }

    /// Where it is written down how it was connected.
    pub(crate) fn record(&self, id: &str) -> PathBuf {
        self.directory.join(id).join("record.json")
    }

    /// Whether a namespace is mounted there: after a restart of the machine only its directory is.
    #[expect(clippy::useless_conversion, reason = "the type depends on the architecture")]
    pub(crate) fn is_alive(&self, id: &str) -> bool {
        rustix::fs::statfs(self.path(id)).is_ok_and(|found| i64::from(found.f_type) == NSFS_MAGIC)
    }

    /// Makes a namespace whose loopback interface is up.
    pub(crate) async fn create(&self, id: &str) -> Result<(), Error> {
        let path = self.path(id);
        let action = || format!("create the network namespace `{}`", path.display());
        let directory = self.directory.join(id);
        fs::create_dir(&directory).map_err(Error::io(action()))?;
        let made = match private(&directory).and_then(|()| fs::write(&path, "")) {
            Ok(()) => mount_new(path.clone()).await,
            Err(error) => Err(error),
        };
        made.map_err(|error| {
            self.remove(id);
            Error::io(action())(error)
        })
    }

    /// Takes a namespace away; with its mount go its interfaces.
    pub(crate) fn remove(&self, id: &str) {
        let directory = self.directory.join(id);
        let removed = match fs::symlink_metadata(&directory) {
            Ok(meta) if meta.is_dir() => {
                unmount(self.path(id)).map_err(io::Error::from).and_then(|()| fs::remove_dir_all(&directory))
            }
            // Not ours, but in the way.
            Ok(_) => fs::remove_file(&directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(namespace = id, %error, "a network namespace is left behind");
        }
    }
}

/// Mounts a new namespace on a file.
async fn mount_new(path: PathBuf) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    // A thread that has left the namespace of its process must not do anything else.
    spawn_thread("network-namespace", move || {
        let made = enter_new()
            .and_then(|()| mount_bind("/proc/thread-self/ns/net", &path, false).map_err(io::Error::from));
        // Whoever waited may have left; the mount is found and removed all the same.
        let _ = sender.send(made);
    })?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the thread that makes it has gone")))
}

/// Moves this thread into a network namespace of its own.
#[expect(unsafe_code, reason = "no safe library moves a thread alone")]
fn enter_new() -> io::Result<()> {
    // SAFETY: only the table of descriptors is a danger to other threads, and it stays shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    netlink::set_loopback_up()
}

fn private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, PermissionsExt::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn namespaces_are_made_kept_and_removed() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().expect("directory");
        let namespaces = Namespaces::open(dir.path().join("a/b")).expect("open");
        let here = fs::read_link("/proc/self/ns/net").expect("namespace of the test");
        for id in ["one", "two"] {
            namespaces.create(id).await.expect("create");
            assert!(namespaces.is_alive(id));
        }
        assert!(namespaces.create("one").await.is_err(), "there is one already");
        assert!(namespaces.is_alive("one"), "and it stays");
        assert!(namespaces.create("no/where").await.is_err());
        namespaces.remove("one");
        assert_eq!(namespaces.ids().expect("list"), ["two"]);
        assert_eq!(fs::read_link("/proc/self/ns/net").expect("namespace of the test"), here);
        let show = std::process::Command::new("nsenter")
            .arg(format!("--net={}", namespaces.path("two").display()))
            .args(["cat", "/proc/net/dev", "/proc/net/route", "/proc/net/if_inet6"])
            .output()
            .expect("nsenter");
        let text = String::from_utf8_lossy(&show.stdout);
        assert!(text.contains("lo:") && !text.contains("eth"), "{text}");
        namespaces.remove("two");
        namespaces.remove("two");
        fs::write(dir.path().join("a/b/stray"), "").expect("file");
        assert!(!namespaces.is_alive("stray"));
        namespaces.remove("stray");
        assert_eq!(namespaces.ids().expect("list"), [""; 0]);
        assert!(buildkit_util_system::mount::mounts_below(dir.path()).expect("table").is_empty());
    }
}
