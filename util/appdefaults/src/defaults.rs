use std::path::PathBuf;

/// Socket of containerd.
pub const CONTAINERD_ADDRESS: &str = "/run/containerd/containerd.sock";

/// Name of the bridge of build containers.
pub const BRIDGE_NAME: &str = "buildkit0";

/// Subnet of that bridge.
pub const BRIDGE_SUBNET: &str = "10.10.0.0/16";

/// Directory of CNI plugins.
pub const CNI_BINARY_DIR: &str = "/opt/cni/bin";

/// Directories of CDI specifications.
pub const CDI_SPEC_DIRS: &[&str] = &["/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"];

/// Places that depend on who runs the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Address that the daemon listens on.
    pub address: String,
    /// State directory.
    pub root: PathBuf,
    /// Directory of the configuration.
    pub config_dir: PathBuf,
}

impl Defaults {
    /// Places of the machine's own daemon.
    pub fn system() -> Self {
        Self {
            address: "unix:///run/buildkit/buildkitd.sock".to_owned(),
            root: PathBuf::from("/var/lib/buildkit"),
            config_dir: PathBuf::from("/etc/buildkit"),
        }
    }

    /// Places of a user's daemon, from the environment that `var` reads; those that it does not name
    /// are the system's.
    pub fn user(var: impl Fn(&str) -> Option<String>) -> Self {
        let system = Self::system();
        let first = |name: &str| {
            var(name)
                .and_then(|value| value.split(':').next().map(str::to_owned))
                .filter(|dir| !dir.is_empty())
        };
        let home = first("HOME");
        let below_home = |dir: &str| home.as_ref().map(|home| PathBuf::from(home).join(dir));
        Self {
            address: first("XDG_RUNTIME_DIR")
                .map_or(system.address, |dir| format!("unix://{dir}/buildkit/buildkitd.sock")),
            root: first("XDG_DATA_HOME")
                .map(PathBuf::from)
                .or_else(|| below_home(".local/share"))
                .map_or(system.root, |dir| dir.join("buildkit")),
            config_dir: first("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .or_else(|| below_home(".config"))
                .map_or(system.config_dir, |dir| dir.join("buildkit")),
        }
    }

    /// Places for this process.
    pub fn detect() -> Self {
        let is_other_root = rustix::process::geteuid().is_root()
            && is_user_namespace()
            && std::env::var("USER").is_ok_and(|user| !user.is_empty() && user != "root");
        if !rustix::process::geteuid().is_root() || is_other_root {
            Self::user(|name| std::env::var(name).ok())
        } else {
            Self::system()
        }
    }
}

/// Whether this process runs in a user namespace that maps only a part of the users.
pub fn is_user_namespace() -> bool {
    // The initial namespace maps all 2^32 - 1 users to themselves.
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let mut fields = map.split_whitespace();
        !matches!((fields.next(), fields.next(), fields.next()), (Some("0"), Some("0"), Some("4294967295")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_their_own_places() {
        let places = Defaults::user(|name| match name {
            "XDG_RUNTIME_DIR" => Some("/run/user/1".to_owned()),
            "HOME" => Some("/home/u".to_owned()),
            _ => None,
        });
        assert_eq!(places.address, "unix:///run/user/1/buildkit/buildkitd.sock");
        assert_eq!(places.root, PathBuf::from("/home/u/.local/share/buildkit"));
        assert_eq!(places.config_dir, PathBuf::from("/home/u/.config/buildkit"));
        assert_eq!(Defaults::user(|_| None), Defaults::system());
    }
}
