//! The network that is made without a configuration: a bridge of the daemon's own.

use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::json;

use crate::config::NetworkConfig;
use crate::lock::init_lock;
use crate::plugin::Plugins;
use crate::provider::BridgeOptions;
use crate::{Error, netlink};

/// Version of the specification that the generated configuration is in.
const CNI_VERSION: &str = "1.0.0";

/// Names of interfaces are shorter than this, in bytes.
const IFNAMSIZ: usize = 16;

/// A bridge, and whether it goes when the daemon does.
#[derive(Debug)]
pub(crate) struct Bridge {
    name: String,
    /// Says to later daemons that this one has made the bridge.
    marker: PathBuf,
    lock: Option<PathBuf>,
    is_ours: bool,
}

impl Bridge {
    /// Looks whether the bridge is there already; the plugin makes it when it is not. The caller holds the lock.
    pub(crate) fn prepare(options: &BridgeOptions, root: &Path, lock: Option<&Path>) -> Result<Self, Error> {
        let name = options.name.clone();
        if name.is_empty()
            || name.len() >= IFNAMSIZ
            || matches!(&*name, "." | "..")
            || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
        {
            return Err(Error::Invalid(format!("Bridge name {name:?} is not a name of an interface")));
        }
        let links = netlink::links().map_err(Error::io("list the network interfaces"))?;
        let found = links.into_iter().find(|link| link.name == name);
        if let Some(other) = found.as_ref().filter(|link| link.kind != "bridge") {
            return Err(Error::Invalid(format!(
                "Network interface `{}` exists and is not a bridge",
                other.name
            )));
        }
        let marker = root.join("bridge");
        let is_ours = found.is_none() || fs::read_to_string(&marker).is_ok_and(|text| text == name);
        if is_ours {
            fs::write(&marker, &name).map_err(Error::io(format!("write `{}`", marker.display())))?;
        }
        Ok(Self { name, marker, lock: lock.map(Path::to_owned), is_ours })
    }

    /// Removes a bridge of this daemon's, unless somebody else uses it by now. Nothing of this daemon is
    /// connected to it any more.
    pub(crate) async fn remove(&self) {
        if !self.is_ours {
            return;
        }
        match init_lock(self.lock.as_deref()).await {
            Ok(_held) => self.remove_held(),
            Err(error) => tracing::warn!(bridge = self.name, %error, "the bridge is left behind"),
        }
    }

    /// As [`Self::remove`], for those who hold the lock.
    pub(crate) fn remove_held(&self) {
        if self.is_ours
            && let Err(error) = self.try_remove()
        {
            tracing::warn!(bridge = self.name, %error, "the bridge is left behind");
        }
    }

    fn try_remove(&self) -> io::Result<()> {
        let links = netlink::links()?;
        if let Some(bridge) = links.iter().find(|link| link.name == self.name && link.kind == "bridge") {
            let index = bridge.index.cast_unsigned();
            if links.iter().any(|link| link.master == Some(index)) {
                tracing::info!(bridge = self.name, "the bridge stays, others are connected to it");
                return Ok(());
            }
            netlink::delete_link(bridge.index)?;
        }
        match fs::remove_file(&self.marker) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The plugins that come with the daemon if they are in the search path, else the standard ones, and the
/// configuration that uses them.
pub(crate) fn generate(options: &BridgeOptions, binaries: &Path) -> Result<(NetworkConfig, Plugins), Error> {
    let subnet = &options.subnet;
    if !is_subnet(subnet) {
        return Err(Error::Invalid(format!(
            "Bridge subnet {subnet:?} is not an address with a prefix length"
        )));
    }
    let own = ["buildkit-cni-bridge", "buildkit-cni-host-local", "buildkit-cni-firewall"];
    let (names, directories) = match directories_of(&own, &options.search_path) {
        Some(directories) => (own, directories),
        None => {
            let program = binaries.join("bridge");
            if !program.exists() {
                return Err(Error::Invalid(format!(
                    "Failed to find the CNI plugin `{}` or `buildkit-cni-bridge`",
                    program.display()
                )));
            }
            (["bridge", "host-local", "firewall"], vec![binaries.to_owned()])
        }
    };
    let [bridge, host_local, firewall] = names;
    // The loopback interface is up already.
    let config = json!({
        "cniVersion": CNI_VERSION,
        "name": "buildkit",
        "plugins": [
            {
                "type": bridge,
                "bridge": options.name,
                "isDefaultGateway": true,
                "ipMasq": true,
                "ipam": { "type": host_local, "ranges": [[{ "subnet": subnet }]] },
            },
            { "type": firewall, "ingressPolicy": "same-bridge" },
        ],
    });
    let config = NetworkConfig::parse(config.to_string().as_bytes()).map_err(Error::Invalid)?;
    Ok((config, Plugins::new(directories)?))
}

/// The directories of programs, if all are in the search path.
fn directories_of(programs: &[&str], search_path: &OsStr) -> Option<Vec<PathBuf>> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for program in programs {
        let directory = std::env::split_paths(search_path)
            .find(|directory| directory.is_absolute() && directory.join(program).is_file())?;
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    Some(directories)
}

fn is_subnet(text: &str) -> bool {
    let parsed = text
        .split_once('/')
        .and_then(|(address, length)| Some((address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?)));
    parsed.is_some_and(|(address, length)| length <= if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str, subnet: &str, search_path: &Path) -> BridgeOptions {
        BridgeOptions { name: name.into(), subnet: subnet.into(), search_path: search_path.into() }
    }

    #[test]
    fn plugins_of_the_daemon_come_first() {
        let dir = tempfile::tempdir().expect("directory");
        let (own, standard) = (dir.path().join("own"), dir.path().join("standard"));
        for place in [&own, &standard] {
            fs::create_dir(place).expect("directory");
        }
        let kinds = || {
            let made = generate(&options("br", "10.9.0.0/16", &own), &standard);
            made.map(|(config, _)| config.plugins().map(|(kind, _)| kind.to_owned()).collect::<Vec<_>>())
        };
        let error = kinds().expect_err("no plugins").to_string();
        assert!(error.contains("standard/bridge` or `buildkit-cni-bridge`"), "{error}");
        fs::write(standard.join("bridge"), "").expect("file");
        assert_eq!(kinds().expect("standard"), ["bridge", "firewall"]);
        for program in ["bridge", "host-local"] {
            fs::write(own.join(format!("buildkit-cni-{program}")), "").expect("file");
        }
        assert_eq!(kinds().expect("standard"), ["bridge", "firewall"], "all or none");
        fs::write(own.join("buildkit-cni-firewall"), "").expect("file");
        assert_eq!(kinds().expect("own"), ["buildkit-cni-bridge", "buildkit-cni-firewall"]);
    }

    #[test]
    fn names_and_subnets_are_checked() {
        let dir = tempfile::tempdir().expect("directory");
        for subnet in ["", "10.9.0.0", "10.9.0.0/33", "a/16", "10.9.0.0/16\"", "::/129", "10.9.0.0/-1"] {
            let error = generate(&options("br", subnet, dir.path()), dir.path()).expect_err(subnet);
            assert!(error.to_string().contains("Bridge subnet"), "{error}");
        }
        assert!(is_subnet("fd00::/64"));
        for name in ["", "a/b", "..", "0123456789abcdef", "a b", "a:1"] {
            let prepared = Bridge::prepare(&options(name, "", dir.path()), dir.path(), None);
            assert!(prepared.expect_err(name).to_string().contains("Bridge name"), "{name}");
        }
        let error = Bridge::prepare(&options("lo", "", dir.path()), dir.path(), None).expect_err("lo");
        assert_eq!(error.to_string(), "Network interface `lo` exists and is not a bridge");
    }

    #[tokio::test]
    async fn a_bridge_that_is_not_there_is_this_daemons_also_after_a_crash() {
        let dir = tempfile::tempdir().expect("directory");
        let options = options("bk-no-such-br", "", dir.path());
        let first = Bridge::prepare(&options, dir.path(), None).expect("free");
        assert!(first.is_ours && first.marker.exists());
        first.remove().await;
        assert!(!first.marker.exists());
    }
}
