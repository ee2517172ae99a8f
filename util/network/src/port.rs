use std::path::PathBuf;

use async_trait::async_trait;
use buildkit_errdefs::{BoxError, Classify, Kind};

/// What the runtime does for the network of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    /// Stays in the network namespace of the host.
    Host,
    /// Makes a new namespace with a loopback interface.
    New,
    /// Enters the namespace at this path.
    Path(PathBuf),
}

/// Why there is no network for a container.
#[derive(Debug, thiserror::Error)]
#[error("Failed to set up the network `{provider}`")]
pub struct Error {
    /// Name of the provider.
    pub provider: String,
    /// What failed.
    #[source]
    pub source: BoxError,
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}

/// The network of one container. It is kept until the container has ended; dropping it gives back
/// what belongs to it.
pub trait Namespace: Send + Sync {
    /// How the container gets into it.
    fn join(&self) -> Join;

    /// Says that a process ran in it that may have changed it, so that no other container gets it.
    fn spoil(&self) {}
}

/// Makes networks for containers.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Name, as the worker label `network` shows it.
    fn name(&self) -> &str;

    /// A network for a container of this host name (empty: the default one). Whoever does not want it any
    /// more drops the future; nothing of the network is left behind then.
    async fn namespace(&self, hostname: &str) -> Result<Box<dyn Namespace>, Error>;

    /// Takes away everything that it has made, once all containers have ended.
    async fn close(&self) {}
}
