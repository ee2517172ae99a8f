use std::collections::BTreeMap;
use std::fmt;

use buildkit_util_gotext::parse_duration;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Old form of `log.level = "debug"`.
    pub debug: bool,
    /// Old form of `log.level = "trace"`.
    pub trace: bool,
    /// State directory.
    pub root: String,
    /// Privileges that builds may ask for.
    #[serde(rename = "insecure-entitlements")]
    pub entitlements: Option<Vec<String>>,
    /// Force all builds through the recording proxy.
    #[serde(rename = "proxyNetwork")]
    pub proxy_network: bool,
    /// Logging.
    pub log: Log,
    /// Listeners.
    pub grpc: Grpc,
    /// Trace collector.
    pub otel: Otel,
    /// Container devices.
    pub cdi: Cdi,
    /// Workers.
    #[serde(rename = "worker")]
    pub workers: Workers,
    /// Registries by host.
    #[serde(rename = "registry")]
    pub registries: BTreeMap<String, Registry>,
    /// Name servers of build containers.
    pub dns: Option<Dns>,
    /// Retention of build records.
    pub history: Option<History>,
    /// Built-in frontends.
    #[serde(rename = "frontend")]
    pub frontends: Frontends,
    /// The machine.
    pub system: System,
    /// Directory of fragments that are merged into provenance.
    #[serde(rename = "provenanceEnvDir")]
    pub provenance_env_dir: String,
    /// Cache backends; kept as it is until a backend reads it.
    pub cache: Option<toml::Value>,
}

/// Logging.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `text` or `json`.
    pub format: String,
    /// `error` … `trace`.
    pub level: String,
}

/// Listeners.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Grpc {
    /// Addresses.
    pub address: Vec<String>,
    /// Address of the debug server.
    #[serde(rename = "debugAddress")]
    pub debug_address: String,
    /// Owner of unix sockets.
    pub uid: Option<u32>,
    /// Group of unix sockets.
    pub gid: Option<u32>,
    /// Of named pipes on Windows; ignored here.
    #[serde(rename = "securityDescriptor")]
    pub security_descriptor: String,
    /// Server TLS.
    pub tls: Tls,
}

/// Files of server TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// Certificate chain.
    pub cert: String,
    /// Private key.
    pub key: String,
    /// Authority that client certificates must come from.
    pub ca: String,
}

/// Trace collector.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Otel {
    /// Its socket.
    #[serde(rename = "socketPath")]
    pub socket_path: String,
}

/// Container devices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cdi {
    /// Off switch.
    pub disabled: Option<bool>,
    /// Directories of specifications.
    #[serde(rename = "specDirs")]
    pub spec_dirs: Vec<String>,
    /// Devices that need no entitlement.
    #[serde(rename = "autoAllowed")]
    pub auto_allowed: Vec<String>,
}

/// Workers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Workers {
    /// The OCI worker.
    pub oci: OciWorker,
    /// The containerd worker.
    pub containerd: ContainerdWorker,
}

/// The OCI worker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OciWorker {
    /// On, off, or automatic.
    pub enabled: Option<bool>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// Platforms to report instead of those found.
    pub platforms: Vec<String>,
    /// Snapshotter or `auto`.
    pub snapshotter: String,
    /// Rootless mode.
    pub rootless: bool,
    /// Share the host's process namespace.
    #[serde(rename = "noProcessSandbox")]
    pub no_process_sandbox: bool,
    /// Garbage collection.
    #[serde(flatten)]
    pub gc: Gc,
    /// Network.
    #[serde(flatten)]
    pub network: Network,
    /// For testing upstream; ignored.
    #[serde(rename = "userRemapUnsupported")]
    pub user_remap_unsupported: String,
    /// Runtime binary.
    pub binary: String,
    /// Socket of an external snapshotter.
    #[serde(rename = "proxySnapshotterPath")]
    pub proxy_snapshotter_path: String,
    /// Parent of all cgroups.
    #[serde(rename = "defaultCgroupParent")]
    pub default_cgroup_parent: String,
    /// Settings of the stargz snapshotter.
    #[serde(rename = "stargzSnapshotter")]
    pub stargz_snapshotter: Option<toml::Value>,
    /// AppArmor profile.
    #[serde(rename = "apparmor-profile")]
    pub apparmor_profile: String,
    /// SELinux labels.
    pub selinux: bool,
    /// Steps that run at a time; 0 is no limit.
    #[serde(rename = "max-parallelism")]
    pub max_parallelism: i64,
    /// Keys that are not known.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, toml::Value>,
}

/// The containerd worker; read so that its keys are known, used once that worker exists.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerdWorker {
    /// Socket.
    pub address: String,
    /// On, off, or automatic.
    pub enabled: Option<bool>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// Platforms to report instead of those found.
    pub platforms: Vec<String>,
    /// Namespace in containerd.
    pub namespace: String,
    /// Shim and its options.
    pub runtime: Option<toml::Value>,
    /// Garbage collection.
    #[serde(flatten)]
    pub gc: Gc,
    /// Network.
    #[serde(flatten)]
    pub network: Network,
    /// Snapshotter.
    pub snapshotter: String,
    /// AppArmor profile.
    #[serde(rename = "apparmor-profile")]
    pub apparmor_profile: String,
    /// SELinux labels.
    pub selinux: bool,
    /// Steps that run at a time; 0 is no limit.
    #[serde(rename = "max-parallelism")]
    pub max_parallelism: i64,
    /// Parent of all cgroups.
    #[serde(rename = "defaultCgroupParent")]
    pub default_cgroup_parent: String,
    /// Rootless mode.
    pub rootless: bool,
    /// Keys that are not known.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, toml::Value>,
}

/// Garbage collection of a worker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Gc {
    /// Off switch.
    #[serde(rename = "gc")]
    pub enabled: Option<bool>,
    /// Old name of `reservedSpace`.
    #[serde(rename = "gckeepstorage")]
    pub keep_storage: DiskSpace,
    /// Never collected below this.
    #[serde(rename = "reservedSpace")]
    pub reserved_space: DiskSpace,
    /// Collected above this.
    #[serde(rename = "maxUsedSpace")]
    pub max_used_space: DiskSpace,
    /// Free space to aim for.
    #[serde(rename = "minFreeSpace")]
    pub min_free_space: DiskSpace,
    /// Rules in order, instead of the default ones.
    #[serde(rename = "gcpolicy")]
    pub policies: Vec<GcPolicyConfig>,
}

/// One rule of garbage collection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GcPolicyConfig {
    /// Internal and shared records too.
    pub all: bool,
    /// Records that the rule is about.
    pub filters: Vec<String>,
    /// Records used within this time are kept.
    #[serde(rename = "keepDuration")]
    pub keep_duration: Duration,
    /// Old name of `reservedSpace`.
    #[serde(rename = "keepBytes")]
    pub keep_bytes: DiskSpace,
    /// Never collected below this.
    #[serde(rename = "reservedSpace")]
    pub reserved_space: DiskSpace,
    /// Collected above this.
    #[serde(rename = "maxUsedSpace")]
    pub max_used_space: DiskSpace,
    /// Free space to aim for.
    #[serde(rename = "minFreeSpace")]
    pub min_free_space: DiskSpace,
}

/// Network of a worker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    /// `auto`, `bridge`, `cni` or `host`.
    #[serde(rename = "networkMode")]
    pub mode: String,
    /// CNI configuration file.
    #[serde(rename = "cniConfigPath")]
    pub cni_config_path: String,
    /// Directory of CNI plugins.
    #[serde(rename = "cniBinaryPath")]
    pub cni_binary_path: String,
    /// Namespaces kept ready.
    #[serde(rename = "cniPoolSize")]
    pub cni_pool_size: i64,
    /// Name of the bridge.
    #[serde(rename = "bridgeName")]
    pub bridge_name: String,
    /// Its subnet.
    #[serde(rename = "bridgeSubnet")]
    pub bridge_subnet: String,
}

/// One registry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Registry {
    /// Hosts to try first.
    pub mirrors: Vec<String>,
    /// Plain HTTP.
    pub http: Option<bool>,
    /// Certificates are not checked.
    pub insecure: Option<bool>,
    /// Authorities.
    pub ca: Vec<String>,
    /// Client certificates.
    pub keypair: Vec<KeyPair>,
    /// Directories of certificates.
    #[serde(rename = "tlsconfigdir")]
    pub tls_config_dir: Vec<String>,
}

/// A client certificate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeyPair {
    /// Private key file.
    pub key: String,
    /// Certificate file.
    pub cert: String,
}

/// Name servers of build containers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses.
    pub nameservers: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
    /// Search domains.
    #[serde(rename = "searchDomains")]
    pub search_domains: Vec<String>,
}

/// Retention of build records.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct History {
    /// Age.
    #[serde(rename = "maxAge")]
    pub max_age: Duration,
    /// Number.
    #[serde(rename = "maxEntries")]
    pub max_entries: i64,
}

/// Built-in frontends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Frontends {
    /// Dockerfiles.
    #[serde(rename = "dockerfile.v0")]
    pub dockerfile: ToggledFrontend,
    /// Frontend images.
    #[serde(rename = "gateway.v0")]
    pub gateway: ToggledFrontend,
}

/// A frontend that can be switched off.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ToggledFrontend {
    /// Off switch.
    pub enabled: Option<bool>,
    /// Repositories that frontend images may come from.
    #[serde(rename = "allowedRepositories")]
    pub allowed_repositories: Vec<String>,
}

/// The machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct System {
    /// How long found platforms are believed.
    #[serde(rename = "platformsCacheMaxAge")]
    pub platforms_cache_max_age: Option<Duration>,
    /// Connections per registry.
    #[serde(rename = "maxRegistryConcurrency")]
    pub max_registry_concurrency: Option<i64>,
}

/// A size: bytes, a text such as `512MB` (units of 1024), or a percentage of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskSpace {
    /// Bytes; 0 is unset.
    Bytes(i64),
    /// Percent of the file system.
    Percentage(i64),
}

impl Default for DiskSpace {
    fn default() -> Self {
        Self::Bytes(0)
    }
}

impl DiskSpace {
    /// Whether nothing was set.
    pub fn is_unset(self) -> bool {
        matches!(self, Self::Bytes(0) | Self::Percentage(0))
    }

    /// Parses a text.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches('"');
        if text.is_empty() {
            return Some(Self::default());
        }
        if let Some(percent) = text.strip_suffix('%') {
            return percent.parse().ok().map(Self::Percentage);
        }
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let number: f64 = text[..split].parse().ok()?;
        let unit = text[split..].trim().to_ascii_lowercase();
        let unit = unit.strip_suffix('b').unwrap_or(&unit);
        let unit = unit.strip_suffix('i').unwrap_or(unit);
        let shift = match unit {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            "p" => 50,
            _ => return None,
        };
        #[expect(clippy::cast_possible_truncation, reason = "saturates, which is what a huge limit means")]
        let bytes = (number * (1_i64 << shift) as f64) as i64;
        Some(Self::Bytes(bytes))
    }
}

struct DiskSpaceVisitor;

impl Visitor<'_> for DiskSpaceVisitor {
    type Value = DiskSpace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes, a size such as \"512MB\", or a percentage such as \"10%\"")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<DiskSpace, E> {
        Ok(DiskSpace::Bytes(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<DiskSpace, E> {
        i64::try_from(value).map(DiskSpace::Bytes).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<DiskSpace, E> {
        DiskSpace::parse(value).ok_or_else(|| E::custom(format!("invalid disk space {value}")))
    }
}

impl<'de> Deserialize<'de> for DiskSpace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DiskSpaceVisitor)
    }
}

/// A time span: seconds, or a text such as `48h`, `1h30m`, `500ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// Parses Go's notation of durations, or a number of seconds.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches('"');
        if text.is_empty() {
            return Some(Self::default());
        }
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Self(std::time::Duration::from_secs(seconds)));
        }
        let nanos = u64::try_from(parse_duration(text).ok()?).ok()?;
        Some(Self(std::time::Duration::from_nanos(nanos)))
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds, or a duration such as \"48h\"")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Duration, E> {
        u64::try_from(value)
            .map(|seconds| Duration(std::time::Duration::from_secs(seconds)))
            .map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Duration, E> {
        Ok(Duration(std::time::Duration::from_secs(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Duration, E> {
        Duration::parse(value).ok_or_else(|| E::custom(format!("invalid duration {value}")))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}
