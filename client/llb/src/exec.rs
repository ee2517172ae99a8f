use std::net::IpAddr;
use std::sync::Arc;

use crate::constraints::{Constrained, Constraints};
use crate::graph::{Kind, Node, Output};
use crate::mount::{Device, Mount, MountKind, Secret, Ssh};
use crate::state::{State, Values};
use crate::{Error, Result, shlex};

/// Path of the root mount.
const ROOT: &str = "/";

/// Network of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// What the worker gives by default.
    #[default]
    Sandbox,
    /// The host's; the build must be allowed to.
    Host,
    /// Loopback only.
    None,
}

/// Privileges of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Those of a container.
    #[default]
    Sandbox,
    /// All; the build must be allowed to.
    Insecure,
}

/// A resource that can be limited for a process; see setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of setrlimit(2)")]
pub enum Ulimit {
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl Ulimit {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Locks,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nice,
        Self::Nofile,
        Self::Nproc,
        Self::Rss,
        Self::Rtprio,
        Self::Rttime,
        Self::Sigpending,
        Self::Stack,
    ];

    /// The resource of this name, such as `nofile`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// Name of the resource, such as `nofile`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Locks => "locks",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rss => "rss",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }
}

/// Proxies that a process is told of; they do not change the cache key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnv {
    /// Value of `HTTP_PROXY`.
    pub http: String,
    /// Value of `HTTPS_PROXY`.
    pub https: String,
    /// Value of `FTP_PROXY`.
    pub ftp: String,
    /// Value of `NO_PROXY`.
    pub no: String,
    /// Value of `ALL_PROXY`.
    pub all: String,
}

/// What an exec op does, besides what it inherited.
#[derive(Debug)]
pub(crate) struct ExecSpec {
    pub(crate) values: Arc<Values>,
    /// By target, the root among them.
    pub(crate) mounts: Vec<ExecMount>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) ssh: Vec<Ssh>,
    pub(crate) devices: Vec<Device>,
    pub(crate) proxy: Option<ProxyEnv>,
}

#[derive(Debug)]
pub(crate) struct ExecMount {
    pub(crate) target: String,
    /// Index of an input of the node; `None` starts empty.
    pub(crate) input: Option<usize>,
    pub(crate) mount: Mount,
}

/// Describes a process; see [`State::run`].
#[derive(Clone, Debug)]
pub struct Run {
    base: State,
    /// The base with what is set for this process alone.
    state: State,
    mounts: Vec<(String, Mount)>,
    secrets: Vec<Secret>,
    ssh: Vec<Ssh>,
    devices: Vec<Device>,
    proxy: Option<ProxyEnv>,
    readonly_root: bool,
    constraints: Constraints,
    error: Option<Error>,
}

impl Constrained for Run {
    fn constraints_mut(&mut self) -> &mut Constraints {
        &mut self.constraints
    }
}

impl Run {
    pub(crate) fn new(base: &State) -> Self {
        Self {
            base: base.clone(),
            state: base.clone(),
            mounts: Vec::new(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            devices: Vec::new(),
            proxy: None,
            readonly_root: false,
            constraints: Constraints::new(),
            error: None,
        }
    }

    fn values(&mut self) -> &mut Values {
        Arc::make_mut(&mut self.state.values)
    }

    /// The program and its arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.values().args = args.into_iter().map(Into::into).collect();
        self
    }

    /// The program and its arguments as a line that is split like a shell's; no shell runs.
    #[must_use]
    pub fn shlex(mut self, line: &str) -> Self {
        match shlex::split(line) {
            Ok(args) => self.values().args = args,
            Err(error) => self.error = Some(error),
        }
        self
    }

    /// Adds a directory at `target`.
    #[must_use]
    pub fn mount(mut self, target: &str, mount: Mount) -> Self {
        self.mounts.push((target.to_owned(), mount));
        self
    }

    /// Adds a secret.
    #[must_use]
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Adds an SSH agent's socket; the first one's path is in `SSH_AUTH_SOCK`.
    #[must_use]
    pub fn ssh(mut self, ssh: Ssh) -> Self {
        self.ssh.push(ssh);
        self
    }

    /// Adds a device.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.devices.push(device);
        self
    }

    /// Tells the process of proxies.
    #[must_use]
    pub fn proxy(mut self, proxy: ProxyEnv) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// The process cannot write to its root; the exec's root is then the tree it ran on.
    #[must_use]
    pub fn readonly_root(mut self) -> Self {
        self.readonly_root = true;
        self
    }

    /// Sets an environment variable for this process alone.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.values().set_env(key, value);
        self
    }

    /// Sets the working directory for this process alone.
    #[must_use]
    pub fn dir(mut self, dir: &str) -> Self {
        self.values().set_dir(dir);
        self
    }

    /// Sets the user for this process alone.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.values().user);
        self
    }

    /// Sets the network for this process alone.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.values().network = network;
        self
    }

    /// Sets the privileges of this process alone.
    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        self.values().security = security;
        self
    }

    /// Adds an entry to the hosts file for this process alone.
    #[must_use]
    pub fn extra_host(mut self, host: &str, ip: IpAddr) -> Self {
        self.values().extra_hosts.push((host.to_owned(), ip));
        self
    }

    /// Limits a resource of this process alone.
    #[must_use]
    pub fn ulimit(mut self, limit: Ulimit, soft: i64, hard: i64) -> Self {
        self.values().ulimits.push((limit, soft, hard));
        self
    }

    /// Sets the parent control group for this process alone.
    #[must_use]
    pub fn cgroup_parent(mut self, parent: &str) -> Self {
        parent.clone_into(&mut self.values().cgroup_parent);
        self
    }

    /// Exit codes that count as success.
    #[must_use]
    pub fn valid_exit_codes(mut self, codes: impl Into<Vec<i32>>) -> Self {
        self.values().valid_exit_codes = Some(codes.into());
        self
    }

    /// Changes what this process alone inherits by a function of states.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(State) -> State) -> Self {
        self.state = change(self.state);
        self
    }

    /// The op.
    pub fn done(self) -> Exec {
        let mut root = Mount::bind(&self.state);
        root.readonly = self.readonly_root;
        let mut mounts = vec![(ROOT.to_owned(), root)];
        mounts.extend(self.mounts);
        mounts.sort_by(|(a, _), (b, _)| a.cmp(b));

        let mut inputs = Vec::new();
        let exec_mounts = mounts
            .iter()
            .map(|(target, mount)| {
                let mut mount = mount.clone();
                // The node alone holds its inputs, so that long chains are freed in a loop.
                let source = mount.source.output.take();
                let input = source.map(|output| Node::add_input(&mut inputs, &output));
                ExecMount { target: target.clone(), input, mount }
            })
            .collect();
        let kind = match self.error {
            Some(error) => Kind::Invalid(error),
            None => Kind::Exec(Box::new(ExecSpec {
                values: self.state.values.clone(),
                mounts: exec_mounts,
                secrets: self.secrets,
                ssh: self.ssh,
                devices: self.devices,
                proxy: self.proxy,
            })),
        };
        let node = Node::new(kind, inputs, self.constraints);
        Exec { node, base: self.base, mounts }
    }

    /// The tree after the process; short for `done().root()`.
    pub fn root(self) -> State {
        self.done().root()
    }
}

/// A process and its results.
#[derive(Clone, Debug)]
pub struct Exec {
    node: Arc<Node>,
    base: State,
    mounts: Vec<(String, Mount)>,
}

impl Exec {
    /// The root tree after the process, with what the state inherited that it ran on.
    pub fn root(&self) -> State {
        // The root was added first and the order is stable, so it is the first at its path.
        let root = self.mounts.iter().enumerate().find(|(_, (target, _))| target == ROOT);
        match root {
            Some((_, (_, mount))) if mount.readonly => self.base.with_output(mount.source.output.clone()),
            Some((index, _)) => self.base.with_output(Some(self.output(index))),
            None => self.base.clone(),
        }
    }

    /// The tree of a mount after the process, with what the mounted state inherited. Of a read-only
    /// mount it is what was mounted.
    ///
    /// # Errors
    /// [`Error::MountOutput`] when nothing is mounted there, or its changes are not kept.
    pub fn mount(&self, target: &str) -> Result<State> {
        let error = |reason| Error::MountOutput { target: target.to_owned(), reason };
        let (index, (_, mount)) = self
            .mounts
            .iter()
            .enumerate()
            .find(|(_, (known, _))| known == target)
            .ok_or_else(|| error("nothing is mounted there"))?;
        if mount.readonly {
            return Ok(mount.source.clone());
        }
        match mount.kind {
            MountKind::Tmpfs { .. } => Err(error("it is a tmpfs")),
            MountKind::Cache { .. } => Err(error("it is a cache")),
            MountKind::Bind if mount.no_output => Err(error("it was marked to have no output")),
            MountKind::Bind => Ok(mount.source.with_output(Some(self.output(index)))),
        }
    }

    /// Outputs are counted over the mounts that have one, by target.
    fn output(&self, mount: usize) -> Output {
        let index = self.mounts[..mount].iter().filter(|(_, mount)| mount.has_output()).count();
        Output { node: self.node.clone(), index: i64::try_from(index).unwrap_or(i64::MAX) }
    }
}

impl From<Exec> for State {
    fn from(exec: Exec) -> Self {
        exec.root()
    }
}
