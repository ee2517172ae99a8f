//! What an earlier daemon left behind when it was killed.

use std::path::Path;
use std::time::{Duration, Instant};

use buildkit_executor::Error;
use buildkit_executor_resources::{Cgroup, Hierarchies};
use buildkit_util_system::mount::{mounts_below, unmount};
use buildkit_util_system::{FileKind, Root};

/// Configurations are never larger, in bytes.
const MAX_CONFIG: u64 = 16 << 20;
/// How long processes may take to end after SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Ends the containers whose bundles are in `bundles`, unmounts all below `root`, and empties
/// `bundles` and `state`.
pub(crate) fn clean(
    root: &Path,
    bundles: &Path,
    state: &Path,
    hierarchies: &Hierarchies,
) -> Result<(), Error> {
    let io = |error: buildkit_util_system::Error| Error::Io {
        action: format!("clean up after an earlier daemon in `{}`", root.display()),
        source: error.into(),
    };
    let confined = Root::open(bundles).map_err(io)?;
    for entry in confined.read_dir("").map_err(io)? {
        if !matches!(entry.kind, FileKind::Directory | FileKind::Unknown) {
            continue;
        }
        let config =
            confined.read_file(Path::new(&entry.name).join("config.json"), MAX_CONFIG).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
        if let Some(path) = config["linux"]["cgroupsPath"].as_str() {
            tracing::info!(container = %entry.name.display(), "ending a container of an earlier daemon");
            end(&Cgroup::new(hierarchies, path));
        }
    }
    for point in mounts_below(root).map_err(io)? {
        if point != root {
            unmount(&point).map_err(io)?;
        }
    }
    confined.remove_all("/").map_err(io)?;
    Root::open(state).and_then(|state| state.remove_all("/")).map_err(io)
}

/// Kills everything in a cgroup until nothing is left of it, and removes it. Returns whether that
/// worked in time; processes that hang in the kernel stay.
pub(crate) fn end(cgroup: &Cgroup) -> bool {
    let deadline = Instant::now() + GRACE;
    while cgroup.kill() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    cgroup.remove().is_ok()
}
