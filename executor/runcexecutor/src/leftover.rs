//! What an earlier daemon left behind when it was killed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use buildkit_executor::Error;
use buildkit_executor_resources::{Cgroup, Hierarchies};
use buildkit_util_appcontext::spawn_thread;
use buildkit_util_system::mount::{mounts_below, unmount};
use buildkit_util_system::{FileKind, Root};
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};

use crate::container::{RunDirectory, remove_bundle};

/// Configurations are never larger, in bytes.
const MAX_CONFIG: u64 = 16 << 20;
/// How long processes may take to end after SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Ends the containers of an earlier daemon in the directory `root` of an executor, and unmounts all below it, which
/// takes away what there was of them.
pub(crate) fn clean(root: &Path, hierarchies: &Hierarchies) -> Result<(), Error> {
    let io = |error: buildkit_util_system::Error| Error::Io {
        action: format!("clean up after an earlier daemon in `{}`", root.display()),
        source: error.into(),
    };
    let run = root.join(RunDirectory::NAME);
    if !end_runtimes(&run.join(RunDirectory::STATE)) {
        tracing::warn!("processes of the runtime that an earlier daemon started do not end");
    }
    end_containers(&run.join(RunDirectory::BUNDLES), hierarchies).map_err(io)?;
    for point in mounts_below(root).map_err(io)? {
        if point != root {
            unmount(&point).map_err(io)?;
        }
    }
    Ok(())
}

/// Ends the containers whose bundles are in a directory.
fn end_containers(bundles: &Path, hierarchies: &Hierarchies) -> Result<(), buildkit_util_system::Error> {
    // Nothing is there after a clean stop, or a start of the machine.
    if !bundles.exists() {
        return Ok(());
    }
    let confined = Root::open(bundles)?;
    for entry in confined.read_dir("")? {
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
    Ok(())
}

/// Kills processes of the runtime that outlived the daemon that started them: they would go on making the
/// cgroups and mounts that are about to be removed. They are known by the directory of their state. Returns
/// whether all ended in time.
fn end_runtimes(state: &Path) -> bool {
    let deadline = Instant::now() + GRACE;
    loop {
        let runtimes = runtimes(state);
        if runtimes.is_empty() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        for pid in runtimes {
            // It may have ended by now.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processes with `--root STATE` among their arguments; dead ones have no arguments any more.
fn runtimes(state: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let is_runtime = |pid: &Pid| {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let args: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        args.windows(2).any(|pair| pair == [b"--root", state.as_os_str().as_bytes()])
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .filter(|pid| *pid != rustix::process::getpid() && is_runtime(pid))
        .collect()
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

/// Longest pause between two attempts to end what hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(30);

/// Goes on to end a cgroup with processes that hang in the kernel, and then removes the bundle, for as long as
/// it takes.
pub(crate) fn end_later(cgroup: Cgroup, bundle: PathBuf) {
    let started = spawn_thread("container-remains", move || {
        let mut pause = Duration::from_millis(500);
        while cgroup.kill() || cgroup.remove().is_err() {
            std::thread::sleep(pause);
            pause = (pause * 2).min(PATIENCE);
        }
        remove_bundle(&bundle);
    });
    if let Err(error) = started {
        tracing::warn!(%error, "remains of a container are left to the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_known_by_their_state() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let mut runtime = std::process::Command::new("sh")
            .args(["-c", "while :; do sleep 1; done", "sh", "--root"])
            .arg(state)
            .spawn()
            .unwrap();
        let reaper = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| runtime.wait().unwrap());
            // It is there once it has its arguments.
            while runtimes(state).is_empty() && !waiting.is_finished() {
                std::thread::sleep(Duration::from_millis(2));
            }
            assert!(end_runtimes(state));
            waiting.join().unwrap()
        });
        assert!(!reaper.success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
