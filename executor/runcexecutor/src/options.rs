use std::path::PathBuf;
use std::sync::Arc;

use buildkit_executor::NetMode;
use buildkit_executor_oci::DnsConfig;
use buildkit_executor_resources::default_pids_limit;
use buildkit_util_network::{Networks, Provider};

/// Names of runtimes that are looked for in `PATH`, the first found wins.
const COMMANDS: [&str; 2] = ["buildkit-runc", "runc"];

/// The network that a container asks for.
pub(crate) fn network_of(networks: &Networks, mode: NetMode) -> &Arc<dyn Provider> {
    match mode {
        NetMode::Default => &networks.default,
        NetMode::Host => &networks.host,
        NetMode::None => &networks.none,
    }
}

/// What an executor needs to know.
#[derive(Clone)]
pub struct Options {
    /// Directory of its own for state, bundles and files of `/etc`; made when missing. One executor
    /// at a time may use it.
    pub root: PathBuf,
    /// Names or paths of runtimes; the first that exists is used.
    pub commands: Vec<String>,
    /// Parent of the containers' cgroups; empty is the root of the hierarchies.
    pub cgroup_parent: String,
    /// Networks.
    pub networks: Networks,
    /// DNS from the configuration.
    pub dns: DnsConfig,
    /// Profile of AppArmor for sandboxed containers.
    pub apparmor_profile: Option<String>,
    /// Most processes of one container; `None` is no limit.
    pub pids_limit: Option<i64>,
    /// Adjustment of the kernel's choice of victims when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// Whether the runtime leaves out `pivot_root`, for a host on a ramdisk.
    pub no_pivot: bool,
}

impl Options {
    /// The defaults with this directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            commands: COMMANDS.map(str::to_owned).into(),
            cgroup_parent: String::new(),
            networks: Networks::default(),
            dns: DnsConfig::default(),
            apparmor_profile: None,
            pids_limit: Some(default_pids_limit()),
            oom_score_adj: None,
            no_pivot: false,
        }
    }
}
