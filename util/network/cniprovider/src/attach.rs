//! Connects namespaces by running all plugins of a network, and takes that back.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use buildkit_util_appcontext::spawn_blocking;
use buildkit_util_network_netpool::Factory;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::NetworkConfig;
use crate::namespace::Namespaces;
use crate::plugin::{Call, Plugins, Verb};

/// Name of the interface in a container.
const INTERFACE: &str = "eth0";

/// Host names are never longer.
const MAX_HOSTNAME: usize = 253;

/// Records are never larger, in bytes.
const MAX_RECORD: u64 = 8 << 20;

/// How long one plugin may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) add: Duration,
    pub(crate) del: Duration,
}

/// Makes namespaces that are connected.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) config: NetworkConfig,
    pub(crate) plugins: Plugins,
    pub(crate) namespaces: Namespaces,
    pub(crate) limits: Limits,
    /// Ends what is being connected.
    pub(crate) closing: CancellationToken,
}

/// A namespace and how it was connected. The part that is written down serves the next daemon.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) id: String,
    record: Record,
}

#[derive(Debug, Deserialize, Serialize)]
struct Record {
    config: NetworkConfig,
    args: String,
    result: Option<Value>,
}

impl Network {
    /// Makes a namespace and connects it. When that fails, nothing of it is left.
    pub(crate) async fn attach(&self, hostname: &str) -> Result<Attached, Error> {
        let args = args(hostname)?;
        if self.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        let id = buildkit_identity::new_id();
        self.namespaces.create(&id).await?;
        let record = Record { config: self.config.clone(), args, result: None };
        let mut attached = Attached { id, record };
        // Before the plugins run, so that what a crash interrupts can be taken back.
        let connected = match self.write(&attached) {
            Ok(()) => self.add(&mut attached).await,
            Err(error) => Err(error),
        };
        match connected.and_then(|()| self.write(&attached)) {
            Ok(()) => Ok(attached),
            Err(error) => {
                self.detach(attached).await;
                Err(error)
            }
        }
    }

    async fn add(&self, attached: &mut Attached) -> Result<(), Error> {
        let Attached { id, record } = attached;
        let netns = self.namespaces.path(id);
        let call = Call {
            verb: Verb::Add,
            id,
            netns: &netns,
            interface: INTERFACE,
            args: &record.args,
            limit: self.limits.add,
        };
        for (kind, plugin) in record.config.plugins() {
            let input = record.config.input(plugin, record.result.as_ref());
            let result = self.plugins.run(kind, input, &call, &self.closing).await?;
            record.result = result.map(|mut result| {
                // Plugins may leave out that they speak the version that they were asked in.
                if let Some(object) = result.as_object_mut() {
                    object.entry("cniVersion").or_insert_with(|| record.config.version.clone().into());
                }
                result
            });
        }
        Ok(())
    }

    /// Takes a connection and its namespace away. What a plugin cannot take back is logged.
    pub(crate) async fn detach(&self, attached: Attached) {
        let Attached { id, record } = attached;
        let netns = self.namespaces.path(&id);
        // Plugins forget addresses also of a namespace that is gone.
        let netns = if self.namespaces.is_alive(&id) { &*netns } else { Path::new("") };
        let call = Call {
            verb: Verb::Del,
            id: &id,
            netns,
            interface: INTERFACE,
            args: &record.args,
            limit: self.limits.del,
        };
        let result = record.result.as_ref().filter(|_| record.config.has_result_at_del());
        for (kind, plugin) in record.config.plugins().rev() {
            let input = record.config.input(plugin, result);
            // Also while everything ends, and also after another plugin has failed.
            if let Err(error) = self.plugins.run(kind, input, &call, &CancellationToken::new()).await {
                tracing::warn!(namespace = id, %error, "a network is not taken down properly");
            }
        }
        let namespaces = self.namespaces.clone();
        // The kernel may take its time with a mount.
        let removed = spawn_blocking(move || namespaces.remove(&id)).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "a network namespace is left behind");
        }
    }

    /// Takes away a namespace of an earlier daemon.
    pub(crate) async fn detach_leftover(&self, id: String) {
        let read = || {
            let file = fs::File::open(self.namespaces.record(&id)).ok()?;
            serde_json::from_reader::<_, Record>(std::io::Read::take(file, MAX_RECORD)).ok()
        };
        // Without a record the best guess is that nothing has changed since.
        let record = read().unwrap_or_else(|| Record {
            config: self.config.clone(),
            args: String::new(),
            result: None,
        });
        tracing::info!(namespace = id, "removing a network namespace of an earlier daemon");
        self.detach(Attached { id, record }).await;
    }

    fn write(&self, attached: &Attached) -> Result<(), Error> {
        let path = self.namespaces.record(&attached.id);
        let io = |error| Error::io(format!("write `{}`", path.display()))(error);
        let content = serde_json::to_vec(&attached.record).map_err(|error| io(error.into()))?;
        fs::write(&path, content).map_err(io)
    }
}

/// What plugins are told of a container: its name, in the way that other runtimes say it too.
fn args(hostname: &str) -> Result<String, Error> {
    if hostname.is_empty() {
        return Ok(String::new());
    }
    // A name must not be able to say more than a name: addresses can be asked for in this way.
    if hostname.len() > MAX_HOSTNAME || hostname.contains(|c: char| c.is_control() || matches!(c, ';' | '='))
    {
        return Err(Error::Invalid(format!(
            "Host name {hostname:?} cannot be given to CNI plugins: it is too long or has one of `;=`"
        )));
    }
    Ok(format!("IgnoreUnknown=1;K8S_POD_NAME={hostname}"))
}

#[async_trait]
impl Factory for Network {
    type Item = Attached;
    type Error = Error;

    async fn create(&self) -> Result<Attached, Error> {
        self.attach("").await
    }

    async fn release(&self, item: Attached) {
        self.detach(item).await;
    }
}
