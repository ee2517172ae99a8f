use crate::{CommandLine, Origin};

/// `RUN`: a command whose changes become a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it was written.
    pub origin: Origin,
    /// The command and its here-documents.
    pub command: CommandLine,
    /// The names of the flags given, without dashes, each once, in the order of their first use.
    pub flags_used: Vec<String>,
    /// `--mount`, each, as far as known: before variables are expanded only what does not need it.
    pub mounts: Vec<Mount>,
    /// The values of `--mount` as written.
    pub mount_flags: Vec<String>,
    /// `--network`
    pub network: NetworkMode,
    /// `--security`
    pub security: SecurityMode,
    /// `--device`, each.
    pub devices: Vec<Device>,
}

/// One `--mount`. Text that was not given is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `type`
    pub kind: MountType,
    /// `from`: stage, image or named context; may not hold variables.
    pub from: String,
    /// `source`, `src`
    pub source: String,
    /// `target`, `dst`, `destination`
    pub target: String,
    /// `readonly`, `ro`, or not `readwrite`, `rw`. Not given, all but caches and tmpfs are read-only.
    pub read_only: bool,
    /// `size` in bytes, for tmpfs; 0 means no limit.
    pub size_limit: i64,
    /// `id`
    pub cache_id: String,
    /// `sharing`, for caches; shared when not given.
    pub cache_sharing: Option<ShareMode>,
    /// `required`, for secrets and ssh.
    pub required: bool,
    /// `env`, for secrets: the variable's name; given without one it is empty, which means the secret's id.
    pub env: Option<String>,
    /// `mode`, for secrets, ssh and caches.
    pub mode: Option<u32>,
    /// `uid`, for secrets, ssh and caches.
    pub uid: Option<u32>,
    /// `gid`, for secrets, ssh and caches.
    pub gid: Option<u32>,
}

/// What a mount holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the client.
    Secret,
    /// The client's SSH agent.
    Ssh,
}

/// How builds at the same time share a cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShareMode {
    /// All write to it.
    Shared,
    /// Each has its own.
    Private,
    /// One after the other.
    Locked,
}

/// The network of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkMode {
    /// The worker's.
    #[default]
    Default,
    /// None.
    None,
    /// The host's, which is an entitlement.
    Host,
}

/// The security of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecurityMode {
    /// Confined.
    #[default]
    Sandbox,
    /// Not confined, which is an entitlement.
    Insecure,
}

/// One `--device`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// `name`, or the first field: a CDI device or class.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

impl MountType {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

impl ShareMode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Locked => "locked",
        }
    }
}

impl NetworkMode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

impl SecurityMode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Insecure => "insecure",
        }
    }
}
