use std::time::Duration;

use buildkit_api_services_control::control_client::ControlClient;
use buildkit_api_services_control::{
    DiskUsageRequest, InfoRequest, ListWorkersRequest, PruneRequest, UsageRecord,
};
use buildkit_api_types::{BuildkitVersion, WorkerRecord};
use buildkit_client_connhelper::{Address, Tls};
use buildkit_session::{CONNECTION_WINDOW, MAX_MESSAGE_SIZE, STREAM_WINDOW};
use hyper_util::rt::TokioIo;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::{Error, Result};

/// Time between two questions whether the daemon is up.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);

/// A connection to a daemon. Clones share it.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

/// What to remove from the cache; sizes in bytes, 0 is no limit.
#[derive(Clone, Debug, Default)]
pub struct PruneOptions {
    /// Only records that one of these filters matches.
    pub filter: Vec<String>,
    /// Also what is kept otherwise: internal and shared records.
    pub all: bool,
    /// Keeps what was used in this time.
    pub keep_duration: Duration,
    /// Space that the cache may always use.
    pub reserved_space: i64,
    /// Space that the cache may use at most.
    pub max_used_space: i64,
    /// Space that must be free on the disk.
    pub min_free_space: i64,
}

impl Client {
    /// Connects to the daemon at an address.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(address: &Address, tls: Option<&Tls>) -> Result<Self> {
        let transport = |source| Error::Transport { address: address.to_string(), source };
        // The first connection is made here for its error; lost ones are made again.
        let first = address.connect(tls).await?;
        let authority = tls.and_then(Tls::server_name).unwrap_or(address.authority()).to_owned();
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(transport)?
            .http2_max_header_list_size(u32::try_from(MAX_MESSAGE_SIZE).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_local_error_reset_streams(None);
        let (address, tls) = (address.clone(), tls.cloned());
        let mut first = Some(first);
        let connector = tower::service_fn(move |_| {
            let (address, tls, first) = (address.clone(), tls.clone(), first.take());
            async move {
                match first {
                    Some(stream) => Ok(stream),
                    None => address.connect(tls.as_ref()).await,
                }
                .map(TokioIo::new)
                .map_err(std::io::Error::other)
            }
        });
        let channel = endpoint.connect_with_connector_lazy(connector);
        Ok(Self { channel })
    }

    /// The connection, for other services of the daemon.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel())
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }

    /// Waits until the daemon answers. A daemon that does not know the question is up.
    ///
    /// # Errors
    /// When the daemon answers with anything but that it is not up yet.
    pub async fn wait(&self) -> Result<()> {
        loop {
            match self.control().info(InfoRequest {}).await {
                Ok(_) => return Ok(()),
                Err(status) => match status.code() {
                    Code::Unimplemented => return Ok(()),
                    Code::Unavailable => tokio::time::sleep(WAIT_INTERVAL).await,
                    _ => return Err(Error::request("failed to call info", &status)),
                },
            }
        }
    }

    /// The daemon's version.
    ///
    /// # Errors
    /// When the daemon cannot be asked.
    pub async fn info(&self) -> Result<BuildkitVersion> {
        let response = self.control().info(InfoRequest {}).await;
        let response = response.map_err(|s| Error::request("failed to call info", &s))?;
        Ok(response.into_inner().buildkit_version.unwrap_or_default())
    }

    /// The daemon's workers, the default one first.
    ///
    /// # Errors
    /// When the daemon cannot be asked or does not understand a filter.
    pub async fn list_workers(&self, filter: Vec<String>) -> Result<Vec<WorkerRecord>> {
        let response = self.control().list_workers(ListWorkersRequest { filter }).await;
        let response = response.map_err(|s| Error::request("failed to list workers", &s))?;
        Ok(response.into_inner().record)
    }

    /// The records of the cache, the smallest first.
    ///
    /// # Errors
    /// When the daemon cannot be asked or does not understand a filter.
    pub async fn disk_usage(&self, filter: Vec<String>) -> Result<Vec<UsageRecord>> {
        let request = DiskUsageRequest { filter, age_limit: 0 };
        let response = self.control().disk_usage(request).await;
        let response = response.map_err(|s| Error::request("failed to call diskusage", &s))?;
        let mut records = response.into_inner().record;
        records.sort_by(|a, b| a.size.cmp(&b.size).then_with(|| a.id.cmp(&b.id)));
        Ok(records)
    }

    /// Removes records from the cache; `removed` gets each one.
    ///
    /// # Errors
    /// When the daemon cannot be asked or fails midway.
    pub async fn prune(&self, options: PruneOptions, mut removed: impl FnMut(UsageRecord)) -> Result<()> {
        let error = |status: tonic::Status| Error::request("failed to call prune", &status);
        let request = PruneRequest {
            filter: options.filter,
            all: options.all,
            keep_duration: i64::try_from(options.keep_duration.as_nanos()).unwrap_or(i64::MAX),
            reserved_space: options.reserved_space,
            max_used_space: options.max_used_space,
            min_free_space: options.min_free_space,
        };
        let mut records = self.control().prune(request).await.map_err(error)?.into_inner();
        while let Some(record) = records.message().await.map_err(error)? {
            removed(record);
        }
        Ok(())
    }
}
