//! The parts of the OCI runtime configuration that are understood. Everything else is refused: what is passed over in
//! silence could be what keeps a container in.
//!
//! Source of the format: the OCI Runtime Specification 1.0.2, `config.md` and `config-linux.md`.

use std::path::PathBuf;

use buildkit_util_seccomp::Profile;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};
use serde::Deserialize;

use crate::error::Error;

/// A `config.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Config {
    pub oci_version: String,
    pub process: Process,
    pub root: RootFs,
    #[serde(default)]
    pub hostname: String,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    pub linux: Linux,
    #[serde(default)]
    pub annotations: serde_json::Value,
}

/// The process of a container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Process {
    #[serde(default)]
    pub terminal: bool,
    pub user: User,
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    pub cwd: String,
    #[serde(default)]
    pub capabilities: Capabilities,
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    #[serde(default)]
    pub no_new_privileges: bool,
    pub apparmor_profile: Option<String>,
    pub oom_score_adj: Option<i32>,
}

/// Who a process is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct User {
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    pub umask: Option<u32>,
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

/// Sets of capabilities, by names such as `CAP_CHOWN`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Capabilities {
    #[serde(default)]
    pub bounding: Vec<String>,
    #[serde(default)]
    pub effective: Vec<String>,
    #[serde(default)]
    pub permitted: Vec<String>,
    #[serde(default)]
    pub inheritable: Vec<String>,
    #[serde(default)]
    pub ambient: Vec<String>,
}

/// A limit of `setrlimit(2)`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    pub hard: u64,
    pub soft: u64,
}

/// The root file system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct RootFs {
    /// Relative ones start at the bundle.
    pub path: PathBuf,
    #[serde(default)]
    pub readonly: bool,
}

/// A mount besides the root.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Mount {
    pub destination: PathBuf,
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub source: PathBuf,
    #[serde(default)]
    pub options: Vec<String>,
}

/// What is special to Linux.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Linux {
    /// Below the root of each hierarchy.
    pub cgroups_path: String,
    #[serde(default)]
    pub namespaces: Vec<Namespace>,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub devices: Vec<Device>,
    #[serde(default)]
    pub masked_paths: Vec<PathBuf>,
    #[serde(default)]
    pub readonly_paths: Vec<PathBuf>,
    pub seccomp: Option<Profile>,
}

/// A namespace to make, or to join by its path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    pub path: Option<PathBuf>,
}

/// Kinds of namespaces. Those of users are not among them: whoever is not root has no use for this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "names are those of the specification")]
pub enum NamespaceKind {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    Cgroup,
}

/// Limits of the control group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Resources {
    #[serde(default)]
    pub devices: Vec<DeviceRule>,
    pub memory: Option<Memory>,
    pub cpu: Option<Cpu>,
    pub pids: Option<Pids>,
}

/// Whether devices may be used.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct DeviceRule {
    pub allow: bool,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub access: Option<String>,
}

/// Limits of memory in bytes; -1 is none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Memory {
    pub limit: Option<i64>,
    pub swap: Option<i64>,
}

/// Limits of processors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Cpu {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub period: Option<u64>,
    pub cpus: Option<String>,
    pub mems: Option<String>,
}

/// Limit of the number of processes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Pids {
    pub limit: i64,
}

/// A device node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are those of the specification")]
pub struct Device {
    pub path: PathBuf,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub major: u32,
    #[serde(default)]
    pub minor: u32,
    /// Permission bits; readable and writable by all without it.
    pub file_mode: Option<u32>,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
}

impl Process {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cwd.starts_with('/') {
            Ok(())
        } else {
            Err(Error::new("the working directory is not absolute"))
        }
    }
}

impl Config {
    /// The namespace of a kind, if the container has one that is not the machine's.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|namespace| namespace.kind == kind)
    }

    /// Refuses what would leave the container less confined than it looks.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.namespace(NamespaceKind::Mount).is_none_or(|namespace| namespace.path.is_some()) {
            return Err(Error::new("a container needs a mount namespace of its own"));
        }
        let mut seen = Vec::new();
        for Namespace { kind, path } in &self.linux.namespaces {
            if seen.contains(kind) {
                return Err(Error::new(format!("namespace {kind:?} is there twice")));
            }
            seen.push(*kind);
            if path.is_some() && *kind != NamespaceKind::Network {
                return Err(Error::new(format!("namespace {kind:?} cannot be joined by its path")));
            }
        }
        if !self.hostname.is_empty() && self.namespace(NamespaceKind::Uts).is_none() {
            return Err(Error::new("a hostname needs a UTS namespace"));
        }
        self.process.check()?;
        let relative = self.mounts.iter().map(|mount| &mount.destination).find(|path| !path.is_absolute());
        match relative {
            Some(path) => Err(Error::new(format!("mount destination {path:?} is not absolute"))),
            None => Ok(()),
        }
    }

    /// Namespaces that the first process is born into. That of control groups comes later.
    pub(crate) fn namespaces_to_make(&self) -> UnshareFlags {
        let new = self.linux.namespaces.iter().filter(|namespace| namespace.path.is_none());
        new.fold(UnshareFlags::empty(), |flags, namespace| {
            flags
                | match namespace.kind {
                    NamespaceKind::Pid => UnshareFlags::NEWPID,
                    NamespaceKind::Network => UnshareFlags::NEWNET,
                    NamespaceKind::Mount => UnshareFlags::NEWNS,
                    NamespaceKind::Ipc => UnshareFlags::NEWIPC,
                    NamespaceKind::Uts => UnshareFlags::NEWUTS,
                    NamespaceKind::Cgroup => UnshareFlags::empty(),
                }
        })
    }

    /// Namespaces that further processes join, but for that of processes.
    pub(crate) fn namespaces_to_join(&self) -> ThreadNameSpaceType {
        self.linux.namespaces.iter().fold(ThreadNameSpaceType::empty(), |kinds, namespace| {
            kinds
                | match namespace.kind {
                    NamespaceKind::Pid => ThreadNameSpaceType::empty(),
                    NamespaceKind::Network => ThreadNameSpaceType::NETWORK,
                    NamespaceKind::Mount => ThreadNameSpaceType::MOUNT,
                    NamespaceKind::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
                    NamespaceKind::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
                    NamespaceKind::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
                }
        })
    }
}
