use std::sync::Arc;

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_network::{HostNetwork, Networks, Provider};
use buildkit_util_network_cniprovider::{BridgeOptions, CniOptions, CniProvider, Error as CniError};

/// Why a worker has no networks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such mode.
    #[error("Invalid network mode {0:?}: expected auto, bridge, cni or host")]
    Mode(String),
    /// The network of containers does not work.
    #[error("Failed to set up the network of containers")]
    Cni(#[source] CniError),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Mode(_) => Kind::InvalidArgument,
            Self::Cni(error) => error.kind(),
        }
    }
}

/// Which networks a worker is to have.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// `auto` (or empty), `bridge`, `cni` or `host`.
    pub mode: String,
    /// Whether `auto` is `bridge`.
    pub bridge_auto: bool,
    /// For `cni`; places and limits also for `bridge`.
    pub cni: CniOptions,
    /// For `bridge`.
    pub bridge: BridgeOptions,
}

/// Sets up the networks. `auto` is the network of the configuration file if there is one, else the host's.
///
/// # Errors
/// When the mode is not known, or its network does not work.
pub async fn open(options: NetworkOptions) -> Result<Networks, Error> {
    let NetworkOptions { mode, bridge_auto, cni, bridge } = options;
    let mode = match mode.as_str() {
        "" | "auto" if bridge_auto => "bridge",
        "" | "auto" if cni.config_path.exists() => "cni",
        "" | "auto" => "host",
        mode => mode,
    };
    let default: Arc<dyn Provider> = match mode {
        "host" => Arc::new(HostNetwork),
        "cni" => Arc::new(CniProvider::open(cni).await.map_err(Error::Cni)?),
        "bridge" => Arc::new(CniProvider::open_bridge(cni, &bridge).await.map_err(Error::Cni)?),
        other => return Err(Error::Mode(other.to_owned())),
    };
    Ok(Networks::with_default(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &std::path::Path, mode: &str, bridge_auto: bool) -> NetworkOptions {
        NetworkOptions {
            mode: mode.to_owned(),
            bridge_auto,
            cni: CniOptions::new(dir.join("root"), dir.join("cni.json"), dir.join("bin")),
            bridge: BridgeOptions {
                name: "bk-test-br".to_owned(),
                subnet: "10.250.0.0/24".to_owned(),
                search_path: dir.as_os_str().to_owned(),
            },
        }
    }

    #[tokio::test]
    async fn modes_are_resolved() {
        let dir = tempfile::tempdir().expect("directory");
        let resolve = async |mode: &str, bridge_auto| {
            let opened = open(options(dir.path(), mode, bridge_auto)).await;
            opened.map(|networks| networks.default.name().to_owned()).map_err(|error| match error {
                Error::Cni(error) => error.to_string(),
                mode => mode.to_string(),
            })
        };
        for mode in ["", "auto", "host"] {
            assert_eq!(resolve(mode, false).await.as_deref(), Ok("host"));
        }
        assert_eq!(resolve("host", true).await.as_deref(), Ok("host"));
        for (mode, bridge_auto) in [("auto", true), ("", true), ("bridge", false)] {
            let error = resolve(mode, bridge_auto).await.expect_err("no plugins");
            assert!(error.contains("buildkit-cni-bridge"), "{error}");
        }
        assert!(resolve("cni", false).await.expect_err("no file").contains("cni.json"));
        // A file that is there is meant, also when it is broken.
        std::fs::write(dir.path().join("cni.json"), "{").expect("file");
        assert!(resolve("auto", false).await.expect_err("broken").contains("EOF while parsing"));
        let error = resolve("CNI", false).await.expect_err("no such mode");
        assert_eq!(error, "Invalid network mode \"CNI\": expected auto, bridge, cni or host");
        assert!(!dir.path().join("root/cni").exists());
    }
}
