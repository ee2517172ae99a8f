use std::path::PathBuf;
use std::sync::Arc;

use buildkit_executor::NetMode;
use buildkit_executor_oci::DnsConfig;
use buildkit_executor_resources::default_pids_limit;
use buildkit_util_network::{Networks, Provider};
use buildkit_util_system::in_user_namespace;

/// Name of the runtime that comes with this program (`cmd/buildkit-runc`), and of runc in releases of the original.
const OWN: &str = "buildkit-runc";
/// Name of runc.
const RUNC: &str = "runc";
/// The first Linux that the own runtime runs on: major and minor number.
const OWN_NEEDS: (u32, u32) = (5, 12);

/// Runtimes to look for, the best one first: our own beside this program, and then what is in `PATH`.
fn default_commands() -> Vec<String> {
    // Its filters of system calls are for these.
    let is_known = cfg!(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64",
        all(target_arch = "powerpc64", target_endian = "little"),
    ));
    if !is_known || kernel() < Some(OWN_NEEDS) || in_user_namespace() || has_new_groups_alone() {
        // The second one may be runc, of a release of the original.
        return vec![RUNC.to_owned(), OWN.to_owned()];
    }
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name(OWN));
    let beside = beside.filter(|file| file.is_file()).and_then(|file| file.to_str().map(str::to_owned));
    beside.into_iter().chain([OWN.to_owned(), RUNC.to_owned()]).collect()
}

/// Whether control groups are those of version 2 alone. There our runtime does not yet make groups where this process is
/// in the root of its namespace, as in containers, nor beside hierarchies of version 1 that are mounted elsewhere.
fn has_new_groups_alone() -> bool {
    /// From `linux/magic.h`.
    const CGROUP2: u64 = 0x6367_7270;
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.f_type.cast_unsigned() == CGROUP2)
}

/// Major and minor number of the running Linux.
fn kernel() -> Option<(u32, u32)> {
    parse_release(rustix::system::uname().release().to_str().ok()?)
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

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
            commands: default_commands(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(parse_release("5.4"), Some((5, 4)));
        assert_eq!(parse_release("x"), None);
        assert!(parse_release("5.4.0") < Some(OWN_NEEDS) && parse_release("5.12.0") >= Some(OWN_NEEDS));
        assert!(default_commands().contains(&RUNC.to_owned()));
    }
}
