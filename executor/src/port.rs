use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use buildkit_errdefs::{BoxError, Classify, Kind};
use buildkit_snapshot::Mount;
use tokio_util::sync::CancellationToken;

/// Network of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetMode {
    /// The worker's default.
    #[default]
    Default,
    /// The network of the host.
    Host,
    /// A loopback interface only.
    None,
}

/// Privileges of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityMode {
    /// The default capabilities, seccomp profile and masked paths.
    #[default]
    Sandbox,
    /// All capabilities, no seccomp, writable `/sys`, devices of the host.
    Insecure,
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Host name.
    pub host: String,
    /// Its address.
    pub ip: IpAddr,
}

/// A resource limit in the words of `setrlimit(2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// Limits of one container; `None` is no limit. Units as in the OCI runtime specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together.
    pub memory_swap: Option<i64>,
    /// Relative weight.
    pub cpu_shares: Option<u64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds per period.
    pub cpu_quota: Option<i64>,
    /// Such as `0-3`.
    pub cpuset_cpus: Option<String>,
    /// Such as `0,1`.
    pub cpuset_mems: Option<String>,
}

/// What a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Empty is root: `name|uid[:group|gid]`, resolved in the root file system.
    pub user: String,
    /// Working directory, absolute; made when missing.
    pub cwd: String,
    /// Host name; empty is `buildkitsandbox`.
    pub hostname: String,
    /// Parent of the container's cgroup; empty is the worker's default.
    pub cgroup_parent: String,
    /// Whether the root file system is read-only.
    pub readonly_root: bool,
    /// More lines of `/etc/hosts`.
    pub extra_hosts: Vec<HostEntry>,
    /// Limits of the process.
    pub ulimits: Vec<Ulimit>,
    /// Network.
    pub network: NetMode,
    /// Privileges.
    pub security: SecurityMode,
    /// Limits of the container.
    pub limits: ResourceLimits,
    /// Remove empty parents of mount stubs too.
    pub remove_mount_stubs_recursive: bool,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Exit codes that are success; empty is 0 only.
    pub valid_exit_codes: Vec<i32>,
}

/// What a container mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerMount {
    /// A snapshot or directory, or with `selector` a path inside it. The path is resolved inside the
    /// source without ever leaving it, also against changes made meanwhile.
    Snapshot {
        /// What to mount.
        mount: Mount,
        /// Path below the source; empty is the source itself.
        selector: String,
    },
    /// A file or socket of the host that the caller keeps alive.
    Host {
        /// Absolute path.
        path: PathBuf,
    },
    /// A tmpfs.
    Tmpfs {
        /// Size in bytes, 0 is the kernel's default.
        size: i64,
    },
}

/// One mount of a container besides the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecMount {
    /// What.
    pub source: ContainerMount,
    /// Where, absolute or relative to the working directory.
    pub dest: String,
    /// Whether nothing may be written.
    pub readonly: bool,
}

/// Standard streams. `None` is nothing to read, or output discarded.
#[derive(Default)]
pub struct ProcessIo {
    /// Standard input.
    pub stdin: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
    /// Standard output.
    pub stdout: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    /// Standard error.
    pub stderr: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
}

/// A process for a container that runs.
pub struct ProcessSpec {
    /// What it is.
    pub meta: Meta,
    /// Its streams.
    pub io: ProcessIo,
    /// Window sizes (columns, rows) of its terminal.
    pub resize: Option<tokio::sync::mpsc::Receiver<(u16, u16)>>,
    /// Signals to send it.
    pub signals: Option<tokio::sync::mpsc::Receiver<i32>>,
}

/// A container and its first process.
pub struct RunRequest {
    /// Unique id of the container; safe as a file name.
    pub id: String,
    /// Its root file system.
    pub root: Mount,
    /// Other mounts in the order in which they are made.
    pub mounts: Vec<ExecMount>,
    /// The first process.
    pub process: ProcessSpec,
    /// Completed once the process runs.
    pub started: Option<tokio::sync::oneshot::Sender<()>>,
    /// Ends everything in the container.
    pub cancel: CancellationToken,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + signal number when a signal ended it.
    pub code: i32,
    /// The signal that `code` stands for. A process that exits with such a code by itself cannot be
    /// told from one that was ended by the signal.
    pub signal: Option<i32>,
    /// Whether the kernel ended something in the container for want of memory.
    pub oom_killed: bool,
}

/// Why a container did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request asks for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// No container of this id runs.
    #[error("Container `{0}` is not running")]
    NotRunning(String),
    /// It was cancelled. Everything in it has ended.
    #[error("Container was cancelled")]
    Cancelled,
    /// The runtime could not start it; `detail` is its own message, which it has also written to
    /// [`ProcessIo::stderr`].
    #[error("Runtime failed to start the container: {detail}")]
    Runtime {
        /// The runtime's message in one line.
        detail: String,
        /// Exit status of the runtime, which the original reports as that of the process.
        status: i32,
    },
    /// The system refused.
    #[error("Failed to {action}")]
    Io {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Something else failed.
    #[error("Failed to {action}")]
    Other {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::NotRunning(_) => Kind::NotFound,
            Self::Cancelled => Kind::Cancelled,
            Self::Runtime { .. } | Self::Other { .. } => Kind::Unknown,
            Self::Io { source, .. } => Kind::of_io(source),
        }
    }
}

/// Runs processes in containers.
///
/// [`run`](Self::run) returns when the first process has ended, its output is read to the end, and
/// nothing of the container is left: no process, mount, cgroup or runtime state. That holds however
/// it ends: by itself, by [`RunRequest::cancel`] (within two seconds), or by dropping the future.
/// An exit code other than 0 is not an error here.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Runs a container to its end.
    async fn run(&self, request: RunRequest) -> Result<Exit, Error>;

    /// Runs another process in the container `id` to its end.
    async fn exec(&self, id: &str, process: ProcessSpec, cancel: CancellationToken) -> Result<Exit, Error>;

    /// Waits until nothing is left of containers that ran or were cancelled, also of those whose callers have
    /// gone. New ones are the caller's to prevent.
    async fn drain(&self) {}
}
