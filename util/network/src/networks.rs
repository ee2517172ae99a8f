use std::sync::Arc;

use crate::{HostNetwork, NoNetwork, Provider};

/// The networks that a worker has for its containers.
#[derive(Clone)]
pub struct Networks {
    /// For containers that ask for none.
    pub default: Arc<dyn Provider>,
    /// The network of the host.
    pub host: Arc<dyn Provider>,
    /// Loopback only.
    pub none: Arc<dyn Provider>,
}

impl Default for Networks {
    /// The network of the host for containers that ask for none.
    fn default() -> Self {
        Self::with_default(Arc::new(HostNetwork))
    }
}

impl Networks {
    /// This network for containers that ask for none.
    pub fn with_default(default: Arc<dyn Provider>) -> Self {
        Self { default, host: Arc::new(HostNetwork), none: Arc::new(NoNetwork) }
    }

    /// Takes down what was set up for them, once no container runs any more.
    pub async fn close(&self) {
        for provider in [&self.default, &self.host, &self.none] {
            provider.close().await;
        }
    }
}
