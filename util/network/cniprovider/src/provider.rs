use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buildkit_util_network::{Error as PortError, Join, Namespace, Provider};
use buildkit_util_network_netpool::{Error as PoolError, Lease, Pool};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::attach::{Limits, Network};
use crate::bridge::{Bridge, generate};
use crate::config::NetworkConfig;
use crate::lock::init_lock;
use crate::namespace::Namespaces;
use crate::plugin::Plugins;

/// How long one plugin may take to connect a container.
const ADD_LIMIT: Duration = Duration::from_secs(30);

/// How long one plugin may take to take that back. The daemon waits for it when it ends.
const DEL_LIMIT: Duration = Duration::from_secs(10);

/// How many namespaces of an earlier daemon are taken down at a time.
const LEFTOVERS: usize = 4;

/// How networks are made.
#[derive(Clone, Debug)]
pub struct CniOptions {
    /// Directory of its own for namespaces; made when missing. One provider at a time may use it.
    pub root: PathBuf,
    /// The configuration of the network, with one plugin or with a list of them.
    pub config_path: PathBuf,
    /// Where plugins are.
    pub binary_dir: PathBuf,
    /// Namespaces that are kept ready.
    pub pool_size: usize,
    /// File that is locked while the network is made for the first time, so that daemons do not disturb
    /// each other.
    pub init_lock: Option<PathBuf>,
    /// How long a plugin may take to connect a container.
    pub add_limit: Duration,
    /// How long a plugin may take to take that back.
    pub del_limit: Duration,
}

impl CniOptions {
    /// The defaults with these places.
    pub fn new(
        root: impl Into<PathBuf>,
        config_path: impl Into<PathBuf>,
        binary_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            root: root.into(),
            config_path: config_path.into(),
            binary_dir: binary_dir.into(),
            pool_size: 0,
            init_lock: None,
            add_limit: ADD_LIMIT,
            del_limit: DEL_LIMIT,
        }
    }
}

/// A network that needs no configuration file: containers are connected to a bridge.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// Name of the bridge.
    pub name: String,
    /// Its subnet, as address and prefix length.
    pub subnet: String,
    /// Directories, as in `PATH`, where the plugins `buildkit-cni-*` are looked for.
    pub search_path: OsString,
}

/// Connects containers with CNI plugins.
pub struct CniProvider {
    pool: Pool<Network>,
    network: Arc<Network>,
    bridge: Option<Bridge>,
}

impl CniProvider {
    /// The network of a configuration file. One container's network is made at once, to see that it works.
    ///
    /// # Errors
    /// When the configuration makes no sense, or the plugins do not work.
    pub async fn open(options: CniOptions) -> Result<Self, Error> {
        let config = NetworkConfig::load(&options.config_path)?;
        let directory = &options.binary_dir;
        fs_err::read_dir(directory)
            .map_err(Error::io(format!("read the directory of CNI plugins `{}`", directory.display())))?;
        let plugins = Plugins::new(vec![directory.clone()])?;
        let held = init_lock(options.init_lock.as_deref()).await?;
        let provider = Self::start(&options, config, plugins, None).await?;
        drop(held);
        provider.pool.fill();
        Ok(provider)
    }

    /// A network of a bridge. The bridge goes with the provider if it was not there before and nobody else
    /// uses it.
    ///
    /// # Errors
    /// As [`Self::open`]; the configuration file is not used.
    pub async fn open_bridge(options: CniOptions, bridge: &BridgeOptions) -> Result<Self, Error> {
        let (config, plugins) = generate(bridge, &options.binary_dir)?;
        fs_err::create_dir_all(&options.root)
            .map_err(Error::io(format!("create `{}`", options.root.display())))?;
        let lock = options.init_lock.as_deref();
        let held = init_lock(lock).await?;
        let bridge = Bridge::prepare(bridge, &options.root, lock)?;
        let provider = Self::start(&options, config, plugins, Some(bridge)).await?;
        drop(held);
        provider.pool.fill();
        Ok(provider)
    }

    async fn start(
        options: &CniOptions,
        config: NetworkConfig,
        plugins: Plugins,
        bridge: Option<Bridge>,
    ) -> Result<Self, Error> {
        let namespaces = Namespaces::open(options.root.join("cni"))?;
        let leftovers = namespaces.ids()?;
        let network = Arc::new(Network {
            config,
            plugins,
            namespaces,
            limits: Limits { add: options.add_limit, del: options.del_limit },
            closing: CancellationToken::new(),
        });
        let provider =
            Self { pool: Pool::new(network.clone(), options.pool_size), network: network.clone(), bridge };
        provider.pool.track("remove network namespaces", async move {
            let leftovers = futures::stream::iter(leftovers);
            leftovers.for_each_concurrent(LEFTOVERS, |id| network.detach_leftover(id)).await;
        });
        match provider.pool.get().await {
            Ok(_kept) => Ok(provider),
            Err(error) => {
                provider.pool.close().await;
                if let Some(bridge) = &provider.bridge {
                    bridge.remove_held();
                }
                Err(plain(error))
            }
        }
    }

    async fn connect(&self, hostname: &str) -> Result<Lease<Network>, Error> {
        if hostname.is_empty() {
            return self.pool.get().await.map_err(plain);
        }
        // Plugins are told the name, so no other container can have this one's network.
        let (network, hostname) = (self.network.clone(), hostname.to_owned());
        self.pool.get_own(async move { network.attach(&hostname).await }).await.map_err(plain)
    }
}

fn plain(error: PoolError<Error>) -> Error {
    match error {
        PoolError::Create(error) => error,
        PoolError::Closed | PoolError::Lost => Error::Closed,
    }
}

struct Connected {
    lease: Lease<Network>,
    path: PathBuf,
}

impl Namespace for Connected {
    fn join(&self) -> Join {
        Join::Path(self.path.clone())
    }

    fn spoil(&self) {
        self.lease.spoil();
    }
}

#[async_trait]
impl Provider for CniProvider {
    fn name(&self) -> &str {
        "cni"
    }

    async fn namespace(&self, hostname: &str) -> Result<Box<dyn Namespace>, PortError> {
        let failed = |error: Error| PortError { provider: "cni".to_owned(), source: error.into() };
        let lease = self.connect(hostname).await.map_err(failed)?;
        let path = self.network.namespaces.path(&lease.id);
        Ok(Box::new(Connected { lease, path }))
    }

    async fn close(&self) {
        self.network.closing.cancel();
        self.pool.close().await;
        if let Some(bridge) = &self.bridge {
            bridge.remove().await;
        }
    }
}
