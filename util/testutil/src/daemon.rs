//! The daemon under test.

use std::{
    ffi::OsStr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::census::{cgroups, mounts_below, processes};
use crate::{Census, Run, Running, SmallDisk, binary, wait_for};

/// Start and stop take milliseconds; more than this is a hang.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a daemon is to run.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    flags: Vec<String>,
    config: String,
    worker: String,
    env: Vec<(String, String)>,
    disk: Option<(u64, Option<u64>)>,
}

impl DaemonOptions {
    /// The defaults: the OCI worker, no garbage collection policy of its own, debug log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a flag of the daemon.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Adds lines to `buildkitd.toml`. The table `worker.oci` is the harness's: see [`Self::worker`].
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Adds lines to the table `worker.oci`.
    pub fn worker(mut self, toml: &str) -> Self {
        self.worker.push_str(toml);
        self.worker.push('\n');
        self
    }

    /// Sets a variable of the daemon's environment.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Puts its root on a disk of this many bytes, and of so many files if a number is given.
    pub fn disk(mut self, bytes: u64, files: Option<u64>) -> Self {
        self.disk = Some((bytes, files));
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(self) -> TestDaemon {
        let dir =
            tempfile::Builder::new().prefix("buildkit-test-").tempdir().expect("directory of the daemon");
        let cgroup = dir.path().file_name().expect("name of a directory").to_string_lossy().into_owned();
        fs_err::create_dir(dir.path().join("tmp")).expect("directory for temporary files");
        let Self { config, worker, .. } = &self;
        let config = format!("{config}\n[worker.oci]\ndefaultCgroupParent = \"/{cgroup}\"\n{worker}");
        fs_err::write(dir.path().join("buildkitd.toml"), config).expect("configuration of the daemon");
        let disk = self.disk.map(|(bytes, files)| SmallDisk::mount(&dir.path().join("root"), bytes, files));
        let mut daemon = TestDaemon { dir, cgroup, options: self, disk, running: None, log: String::new() };
        daemon.launch();
        daemon
    }
}

/// A daemon with a root, a socket, temporary files and cgroups of its own. Dropping it kills it and removes all
/// of that, mounts and stray containers included; while a test panics, its log is shown first.
#[derive(Debug)]
pub struct TestDaemon {
    dir: TempDir,
    cgroup: String,
    options: DaemonOptions,
    disk: Option<SmallDisk>,
    running: Option<Running>,
    /// Of runs that have ended.
    log: String,
}

impl TestDaemon {
    /// Starts a daemon with the default options.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Self {
        DaemonOptions::new().start()
    }

    /// The directory that holds everything of this daemon.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its state directory (`--root`).
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The disk below its root.
    ///
    /// # Panics
    /// When [`DaemonOptions::disk`] was not asked for.
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a disk of the daemon's own")
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("buildkitd.sock")
    }

    /// The address that clients take.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Name of the cgroup above all its containers.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn id(&self) -> u32 {
        self.running.as_ref().expect("the daemon runs").id()
    }

    /// What it logged, over all its runs.
    pub fn log(&self) -> String {
        let now = self.running.as_ref().map(Running::stderr).unwrap_or_default();
        format!("{}{now}", self.log)
    }

    /// The client with these arguments, to be run against this daemon.
    pub fn buildctl(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        Run::new(binary("buildctl")).env("BUILDKIT_HOST", self.address()).args(args)
    }

    /// A daemon like this one in the same root, which is not allowed; not waited for.
    pub fn rival(&self) -> Run {
        self.command("rival.sock")
    }

    /// Kills it as a crash would, and starts nothing.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the daemon runs");
        running.signal(Signal::KILL);
        self.log.push_str(&running.wait().stderr);
    }

    /// Asks it to stop and waits for that.
    ///
    /// # Panics
    /// When it does not run, or does not stop.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&mut self, signal: Signal) {
        self.running.as_mut().expect("the daemon runs").signal(signal);
    }

    /// Waits until it has logged this text in its present run.
    ///
    /// # Panics
    /// When it does not run or does not log it.
    pub fn wait_for_log(&mut self, text: &str) {
        self.running.as_mut().expect("the daemon runs").wait_for_text(text);
    }

    /// Waits for its end, which something else leads to.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let output = self.running.take().expect("the daemon runs").wait();
        self.log.push_str(&output.stderr);
        output.status
    }

    /// Starts it again after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Panics
    /// When it runs, or does not come up.
    pub fn launch(&mut self) {
        assert!(self.running.is_none(), "the daemon runs already");
        self.running = Some(self.command("buildkitd.sock").deadline(DEADLINE).start());
        wait_for("the daemon", DEADLINE, || {
            let running = self.running.as_mut()?;
            if let Some(status) = running.ended() {
                panic!("the daemon ended with {status}:\n{}", running.stderr());
            }
            // One that was killed leaves its socket behind.
            UnixStream::connect(self.socket()).ok()
        });
        // The socket is there before the stores are open; the first answer comes when they are.
        self.buildctl(["debug", "workers"]).deadline(DEADLINE).run().assert_ok();
    }

    /// Stops and starts it.
    ///
    /// # Panics
    /// When it does not stop with success or does not come up.
    pub fn restart(&mut self) {
        let status = self.stop();
        assert!(status.success(), "the daemon stopped with {status}");
        self.launch();
    }

    /// Counts what belongs to it now.
    pub fn census(&self) -> Census {
        Census::take(self.running.as_ref().map(Running::id), self.dir.path(), &self.cgroup)
    }

    /// Waits until nothing is there that was not there before.
    ///
    /// # Panics
    /// When something stays; it is named.
    #[track_caller]
    pub fn assert_nothing_left(&self, before: &Census) {
        let mut left = Vec::new();
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while std::time::Instant::now() < end {
            left = self.census().since(before);
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("left behind:\n{}", left.join("\n"));
    }

    fn command(&self, socket: &str) -> Run {
        let dir = self.dir.path();
        let mut run = Run::new(binary("buildkitd"))
            .arg("--config")
            .arg(dir.join("buildkitd.toml"))
            .arg("--root")
            .arg(self.root())
            .arg("--addr")
            .arg(format!("unix://{}", dir.join(socket).display()))
            .args(["--containerd-worker=false", "--debug"])
            .args(&self.options.flags)
            .env("TMPDIR", dir.join("tmp"));
        for (key, value) in &self.options.env {
            run = run.env(key, value);
        }
        run
    }

    /// Ends what a killed daemon cannot end.
    fn clean(&self) {
        for pid in processes(None, &self.cgroup).into_keys() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for mount in mounts_below(self.dir.path()).into_iter().rev() {
            let _ = unmount(&mount, UnmountFlags::DETACH);
        }
        for dir in cgroups(&self.cgroup).into_iter().rev() {
            let _ = fs_err::remove_dir(dir);
        }
        for hierarchy in fs_err::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let top = hierarchy.path().join(&self.cgroup);
            let _ = fs_err::remove_dir(top.join("buildkit"));
            let _ = fs_err::remove_dir(top);
        }
        // Where there is one hierarchy only.
        let top = Path::new("/sys/fs/cgroup").join(&self.cgroup);
        let _ = fs_err::remove_dir(top.join("buildkit"));
        let _ = fs_err::remove_dir(top);
    }
}

impl Drop for TestDaemon {
    #[expect(clippy::print_stderr, reason = "tests show it when they fail")]
    fn drop(&mut self) {
        let log = self.log();
        self.running = None;
        self.clean();
        if std::thread::panicking() {
            eprintln!("--- log of the daemon ---\n{log}");
        }
    }
}
