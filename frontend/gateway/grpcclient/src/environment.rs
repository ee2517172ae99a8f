//! Frontends in containers: their environment tells them what to do, and the daemon is at their standard input and output.

use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_frontend_gateway_client::{BuildFunction, WorkerInfo};
use buildkit_session::{CONNECTION_WINDOW, MAX_MESSAGE_SIZE, STREAM_WINDOW};
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_ocispec::Platform;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint};

use crate::{GrpcClient, Settings};

const OPTION_PREFIX: &str = "BUILDKIT_FRONTEND_OPT_";
const SESSION_ID: &str = "BUILDKIT_SESSION_ID";
const WORKERS: &str = "BUILDKIT_WORKERS";
const PRODUCT: &str = "BUILDKIT_EXPORTEDPRODUCT";

/// A worker as the environment describes it.
#[derive(serde::Deserialize)]
struct Worker {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Labels", default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "Platforms", default)]
    platforms: Option<Vec<Platform>>,
}

/// What an environment tells a frontend. Workers that make no sense are none: the daemon tells of them, too.
pub fn settings_of(environment: impl IntoIterator<Item = (String, String)>) -> Settings {
    let mut settings = Settings::default();
    for (name, value) in environment {
        if name.starts_with(OPTION_PREFIX) {
            let (key, value) = value.split_once('=').unwrap_or((&value, ""));
            settings.opts.insert(key.to_owned(), value.to_owned());
        }
        match name.as_str() {
            SESSION_ID => settings.session_id = value,
            PRODUCT => settings.product = value,
            WORKERS => {
                let workers: Option<Vec<Worker>> = serde_json::from_str(&value).unwrap_or_default();
                settings.workers = workers.into_iter().flatten().map(worker).collect();
            }
            _ => {}
        }
    }
    settings
}

fn worker(worker: Worker) -> WorkerInfo {
    WorkerInfo {
        id: worker.id,
        labels: worker.labels.unwrap_or_default(),
        platforms: worker.platforms.unwrap_or_default(),
    }
}

/// Runs a frontend in a container that a daemon started: reads the environment, talks over standard input and output,
/// and ends the build. Nothing else may write to standard output.
///
/// # Errors
/// When there is no daemon at the other end, or the frontend fails.
pub async fn run_from_environment(function: &dyn BuildFunction) -> Result<(), RemoteError> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let stream = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
    let client = GrpcClient::new(connect(stream), settings_of(variables)).await;
    let client = client.map_err(|error| {
        let message = format!("failed to initialize client from environment: {}", error.message);
        RemoteError { message, ..error }
    })?;
    Arc::new(client).run(function).await.map(drop)
}

/// A connection over one stream. When that breaks there is no other.
pub fn connect<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Channel {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    Endpoint::from_static("http://localhost")
        .http2_max_header_list_size(u32::try_from(MAX_MESSAGE_SIZE).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector_lazy(connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_tell_frontends_what_to_do() {
        let workers = r#"[{"ID":"w","Labels":null,"Platforms":[{"architecture":"arm64","os":"linux","variant":"v8"}]}]"#;
        let environment = [
            ("PATH", "/bin"),
            ("BUILDKIT_FRONTEND_OPT_0", "build-arg:A=b=c"),
            ("BUILDKIT_FRONTEND_OPT_1", "no-cache"),
            ("BUILDKIT_SESSION_ID", "session"),
            ("BUILDKIT_EXPORTEDPRODUCT", "docker"),
            ("BUILDKIT_WORKERS", workers),
        ];
        let of = |pairs: &[(&str, &str)]| {
            settings_of(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
        };
        let settings = of(&environment);
        let opts = [("build-arg:A", "b=c"), ("no-cache", "")];
        assert_eq!(settings.opts, opts.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!((settings.session_id.as_str(), settings.product.as_str()), ("session", "docker"));
        assert_eq!(settings.workers[0].id, "w");
        assert_eq!(settings.workers[0].platforms[0].to_string(), "linux/arm64/v8");
        for nonsense in ["", "{", "null", r#"{"ID":1}"#] {
            assert_eq!(of(&[("BUILDKIT_WORKERS", nonsense)]).workers, []);
        }
    }
}
