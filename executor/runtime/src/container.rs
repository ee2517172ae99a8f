//! Containers from their start to their end, as the process that watches one sees it.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use buildkit_executor_resources::Hierarchies;
use buildkit_util_seccomp::Instruction;
use buildkit_util_system::Root;
use fs_err as fs;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, WaitOptions, WaitStatus};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use crate::channel::{Channel, Message};
use crate::config::{Config, Namespace, NamespaceKind, Process};
use crate::error::{Context, Error};
use crate::privileges::{Privileges, home_of};
use crate::program::Program;
use crate::resources::{self, Group};
use crate::rootfs::{CgroupView, RootFs, reopen_null};
use crate::state::{self, Directory, State};
use crate::sys::{self, Forked};
use crate::terminal::{self, Relay};

/// Largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// A container to run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Directory with what is known of containers, by their ids. Made when missing.
    pub state: PathBuf,
    /// Id of the container, which no other one in `state` has.
    pub id: String,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// Where the id of the first process is written once that runs its program.
    pub pid_file: Option<PathBuf>,
    /// Whether the machine's root is covered instead of moved away.
    pub no_pivot: bool,
    /// Whether the control group and the state stay behind, for the caller to look at and remove.
    pub keep: bool,
}

/// A process to run in a container that runs.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Directory with what is known of containers.
    pub state: PathBuf,
    /// Id of the container.
    pub id: String,
    /// File with the `process` of a configuration.
    pub process: PathBuf,
    /// Where the id of the process is written once that runs its program.
    pub pid_file: Option<PathBuf>,
}

/// Runs a container to its end, with the standard streams of this process. Signals that this process gets are passed on
/// to it. Returns the exit status of its first process, or 128 and the number of the signal that ended it.
///
/// The calling process must have one thread, and be root.
///
/// # Errors
/// When the program could not be started. Nothing of the container is left then.
pub fn run(run: &Run) -> Result<i32, Error> {
    close_to_others()?;
    let config = read_config(&run.bundle)?;
    let rootfs = run.bundle.join(&config.root.path);
    let privileges = Privileges::new(&config.process, filter_of(&config)?)?;
    let directory = Directory::make(&run.state, &run.id)?;
    let hierarchies = Hierarchies::detect().context("find control groups")?;
    let group = Group::make(&hierarchies, &config.linux).context("make control groups")?;
    let views = resources::views(&hierarchies, &config.linux.cgroups_path);

    let signals = sys::take_signals().context("take signals")?;
    let (ours, theirs) = Channel::pair()?;
    let pid = sys::fork(config.namespaces_to_make(), group.unified_fd(), |forked| {
        become_program(&theirs, || {
            group.join_self()?;
            let (config, rootfs, views, pivot) = (&config, &rootfs, &views, !run.no_pivot);
            First { config, rootfs, views, privileges, pivot }.become_program(&theirs, &forked)
        })
    });
    let pid = pid.context("make a process")?;
    drop(theirs);
    let mut child = Child { pid, ended: false };
    let relay = begin(&ours, &mut child)?;
    let start_time = state::start_time(pid).unwrap_or_default();
    directory.write(&State { pid: pid.as_raw_nonzero().get(), start_time, bundle: run.bundle.clone() })?;
    write_pid(run.pid_file.as_deref(), pid)?;
    let status = child.watch(&signals, relay)?;
    if run.keep {
        directory.keep();
        group.keep();
    }
    Ok(status)
}

/// Runs a further process in a container, like [`run`] does the first one.
///
/// # Errors
/// When the container does not run, or the program could not be started.
pub fn exec(exec: &Exec) -> Result<i32, Error> {
    close_to_others()?;
    let state = state::read(&exec.state, &exec.id)?;
    let not_running = || Error::new(format!("container {} is not running", exec.id));
    let first = Pid::from_raw(state.pid).ok_or_else(not_running)?;
    // The descriptor is of one process. If that is as old as the container's, it is it.
    let first_fd = rustix::process::pidfd_open(first, PidfdFlags::empty()).map_err(|_| not_running())?;
    if state::start_time(first).ok() != Some(state.start_time) {
        return Err(not_running());
    }
    let config = read_config(&state.bundle)?;
    let process: Process = read_json(&exec.process)?;
    process.check()?;
    let privileges = Privileges::new(&process, filter_of(&config)?)?;
    let hierarchies = Hierarchies::detect().context("find control groups")?;
    let group = Group::of_others(&hierarchies, &config.linux).map_err(|_| not_running())?;

    let signals = sys::take_signals().context("take signals")?;
    let (ours, theirs) = Channel::pair()?;
    if config.namespace(NamespaceKind::Pid).is_some() {
        // Of the processes that are made from now on.
        join_namespaces(&first_fd, ThreadNameSpaceType::PROCESS_ID).map_err(|_| not_running())?;
    }
    let pid = sys::fork(UnshareFlags::empty(), group.unified_fd(), |forked| {
        become_program(&theirs, || {
            group.join_self()?;
            let (config, process, first) = (&config, &process, &first_fd);
            Further { config, process, first, privileges }.become_program(&theirs, &forked)
        })
    });
    let pid = pid.context("make a process")?;
    drop(theirs);
    let mut child = Child { pid, ended: false };
    let relay = begin(&ours, &mut child)?;
    write_pid(exec.pid_file.as_deref(), pid)?;
    child.watch(&signals, relay)
}

/// Makes sure that a copy of this process is nobody's to look into before it has become the container's.
fn close_to_others() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::new("only root can run containers"));
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("close this process to others")
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let action = || format!("read `{}`", path.display());
    let root = Root::open(path.parent().unwrap_or(Path::new("/"))).context(action())?;
    let bytes = root.read_file(path.file_name().unwrap_or_default(), MAX_CONFIG).context(action())?;
    serde_json::from_slice(&bytes).map_err(|error| Error::new(format!("{}: {error}", action())))
}

fn read_config(bundle: &Path) -> Result<Config, Error> {
    let config: Config = read_json(&bundle.join("config.json"))?;
    config.check()?;
    Ok(config)
}

fn filter_of(config: &Config) -> Result<Option<Vec<Instruction>>, Error> {
    let compiled = config.linux.seccomp.as_ref().map(buildkit_util_seccomp::compile).transpose();
    compiled.map_err(|error| Error::new(error.to_string()))
}

fn write_pid(file: Option<&Path>, pid: Pid) -> Result<(), Error> {
    file.map_or(Ok(()), |file| state::write_at_once(file, pid.as_raw_nonzero().to_string().as_bytes()))
}

/// Waits until the child has become its program. Returns what moves its terminal, if it has one.
fn begin(channel: &Channel, child: &mut Child) -> Result<Option<Relay>, Error> {
    let (mut outside, mut executing) = (None, false);
    loop {
        match channel.receive()? {
            Some(Message::Terminal(fd)) => outside = Some(fd),
            Some(Message::Executing) => executing = true,
            Some(Message::Failed(text)) => {
                return Err(Error::new(text).context("unable to start container process"));
            }
            // Executing has closed the other end.
            None if executing => return outside.map(Relay::new).transpose(),
            None => {
                let status = child.end()?;
                let how = format!("the process ended before it started its program (status {status})");
                return Err(Error::new(how).context("unable to start container process"));
            }
        }
    }
}

/// A child of this process, killed when dropped before its end.
struct Child {
    pid: Pid,
    ended: bool,
}

impl Child {
    /// Waits for its end while its terminal is moved, and signals are passed on.
    fn watch(mut self, signals: &OwnedFd, mut relay: Option<Relay>) -> Result<i32, Error> {
        if let Some(relay) = &relay {
            relay.resize();
        }
        loop {
            match &mut relay {
                Some(relay) => relay.step(signals.as_fd())?,
                None => {
                    let mut wanted = [rustix::event::PollFd::from_borrowed_fd(
                        signals.as_fd(),
                        rustix::event::PollFlags::IN,
                    )];
                    match rustix::event::poll(&mut wanted, None) {
                        Err(Errno::INTR) => {}
                        polled => drop(polled.context("wait")?),
                    }
                }
            }
            while let Some(signal) = sys::next_signal(signals.as_fd()).context("read signals")? {
                match signal {
                    libc::SIGCHLD => {
                        if let Some(status) = self.wait(WaitOptions::NOHANG)? {
                            if let Some(relay) = &mut relay {
                                relay.drain();
                            }
                            return Ok(status);
                        }
                    }
                    libc::SIGWINCH if relay.is_some() => relay.iter().for_each(Relay::resize),
                    // They are about this process.
                    libc::SIGWINCH | libc::SIGURG | libc::SIGPIPE => {}
                    // It may have ended meanwhile.
                    signal => drop(sys::kill(self.pid, signal)),
                }
            }
        }
    }

    fn wait(&mut self, options: WaitOptions) -> Result<Option<i32>, Error> {
        loop {
            let waited = match rustix::process::waitpid(Some(self.pid), options) {
                Err(Errno::INTR) => continue,
                waited => waited.context("wait for the process")?,
            };
            let status = waited.and_then(|(_, status)| status_of(status));
            self.ended |= status.is_some();
            return Ok(status);
        }
    }

    /// Kills it, and waits for its end.
    fn end(&mut self) -> Result<i32, Error> {
        // It may have ended already.
        let _ = sys::kill(self.pid, libc::SIGKILL);
        Ok(self.wait(WaitOptions::empty())?.unwrap_or_default())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end();
        }
    }
}

fn status_of(status: WaitStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

fn join_namespaces(first: &OwnedFd, kinds: ThreadNameSpaceType) -> Result<(), Error> {
    rustix::thread::move_into_thread_name_spaces(first.as_fd(), kinds).context("join the container")
}

/// Goes on as the new process: either becomes the program, or tells why not and ends.
fn become_program(channel: &Channel, steps: impl FnOnce() -> Result<Infallible, Error>) -> i32 {
    let Err(error) = steps();
    // Nobody hears it when the other process has gone.
    let _ = channel.send(&Message::Failed(error.to_string()));
    1
}

/// The first process of a container.
struct First<'a> {
    config: &'a Config,
    rootfs: &'a Path,
    views: &'a [CgroupView],
    privileges: Privileges,
    pivot: bool,
}

impl First<'_> {
    fn become_program(self, channel: &Channel, forked: &Forked) -> Result<Infallible, Error> {
        let Self { config, rootfs, views, privileges, pivot } = self;
        sys::close_others(forked, &[channel.as_fd()]).context("close files")?;
        let size = terminal::own_size();
        rustix::process::setsid().context("begin a session")?;
        rustix::process::umask(rustix::fs::Mode::empty());
        if let Some(adjustment) = config.process.oom_score_adj {
            fs::write("/proc/self/oom_score_adj", adjustment.to_string()).context("set oom_score_adj")?;
        }
        for Namespace { path, .. } in &config.linux.namespaces {
            if let Some(path) = path {
                let file = fs::File::open(path).context("open the network")?;
                rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("join the network")?;
            }
        }
        if config.namespace(NamespaceKind::Network).is_some_and(|network| network.path.is_none()) {
            sys::bring_up_loopback().context("bring up the loopback interface")?;
        }
        if config.namespace(NamespaceKind::Cgroup).is_some() {
            // Only now, because it shows the groups of this moment as the root.
            sys::unshare_cgroups().context("make a namespace of control groups")?;
        }
        let apparmor = privileges.open_apparmor()?;
        let mut root = RootFs::open(rootfs)?;
        root.fill(config, views)?;
        root.make_working_directory(Path::new(&config.process.cwd));
        if config.process.terminal {
            let (outside, inside) = terminal::open(root.root(), size)?;
            root.show_in_dev(inside.as_fd(), "console").context("show the terminal")?;
            channel.send(&Message::Terminal(outside))?;
            terminal::control(inside)?;
        } else {
            reopen_null(root.root()).context("replace /dev/null")?;
        }
        root.seal(config)?;
        root.enter(pivot)?;
        if !config.hostname.is_empty() {
            rustix::system::sethostname(config.hostname.as_bytes()).context("set the hostname")?;
        }
        finish(&config.process, privileges, apparmor.as_ref(), channel)
    }
}

/// A further process of a container.
struct Further<'a> {
    config: &'a Config,
    process: &'a Process,
    first: &'a OwnedFd,
    privileges: Privileges,
}

impl Further<'_> {
    fn become_program(self, channel: &Channel, forked: &Forked) -> Result<Infallible, Error> {
        let Self { config, process, first, privileges } = self;
        sys::close_others(forked, &[channel.as_fd(), first.as_fd()]).context("close files")?;
        let size = terminal::own_size();
        rustix::process::setsid().context("begin a session")?;
        if let Some(adjustment) = process.oom_score_adj {
            fs::write("/proc/self/oom_score_adj", adjustment.to_string()).context("set oom_score_adj")?;
        }
        let apparmor = privileges.open_apparmor()?;
        join_namespaces(first, config.namespaces_to_join())?;
        // It was of use only for that, and leads out.
        sys::close_kept(forked, first.as_fd());
        rustix::process::chdir("/").context("enter the root file system")?;
        let root = Root::open("/").context("open the root file system")?;
        if process.terminal {
            let (outside, inside) = terminal::open(&root, size)?;
            channel.send(&Message::Terminal(outside))?;
            terminal::control(inside)?;
        } else {
            reopen_null(&root).context("replace /dev/null")?;
        }
        drop(root);
        finish(process, privileges, apparmor.as_ref(), channel)
    }
}

/// The rest, inside the container.
fn finish(
    process: &Process,
    privileges: Privileges,
    apparmor: Option<&OwnedFd>,
    channel: &Channel,
) -> Result<Infallible, Error> {
    let uid = process.user.uid;
    let program =
        Program::new(process, || Root::open("/").map_or_else(|_| "/".into(), |root| home_of(&root, uid)))?;
    privileges.drop_all(apparmor.map(AsFd::as_fd))?;
    let file = program.find()?;
    sys::reset_signals().context("reset signals")?;
    channel.send(&Message::Executing)?;
    program.execute(&file)
}
