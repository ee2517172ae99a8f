use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use buildkit_api_services_control::{self as control, StatusRequest, status};
use buildkit_frontend_gateway_pb as gateway;
use buildkit_session::SessionServer;
use buildkit_util_appcontext as tasks;
use buildkit_util_progress::SolveStatus;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Status};

use crate::attach::{attach, deletes};
use crate::error::remote;
use crate::request::CacheOption;
use crate::stores::Stores;
use crate::{BuildRequest, BuildResponse, Client, Error, Export, ExportTarget, Result};

/// Says which build a call of the bridge belongs to.
const BUILD_ID: &str = "buildkit-controlapi-buildid";
/// Time after which progress is given up that ends neither itself nor gets news, when the build is
/// over.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);
/// Option by which frontends learn of cache imports, as JSON.
const CACHE_IMPORTS: &str = "cache-imports";

impl Client {
    /// Runs a build to its end. Progress goes to `progress` until it is complete or nobody takes it.
    /// When `cancel` is cancelled the build is given up.
    ///
    /// # Errors
    /// When the build fails or is given up, or the daemon is lost.
    pub async fn build(
        &self,
        mut request: BuildRequest,
        progress: mpsc::Sender<SolveStatus>,
        cancel: CancellationToken,
    ) -> Result<BuildResponse> {
        check(&request)?;
        if request.reference.is_empty() {
            request.reference = buildkit_identity::new_id();
        }
        // Of what several exporters answer under one key, the last one's stays. What it says of an image has to be about
        // the image that becomes a layout, which this is needed for.
        request.exports.sort_by_key(Export::fills_store);
        let mut session = SessionServer::new(&request.shared_key).await;
        attach(&mut session, &mut request)?;
        let prepared = tasks::spawn_blocking(move || (Stores::prepare(&mut request), request));
        let (stores, request) = prepared.await.map_err(|error| Error::Session(error.to_string()))?;
        let stores = stores?;
        stores.attach(&mut session);
        let solve = solve_request(&request, session.id());
        let session = Arc::new(session);
        let channel = self.channel();
        let tunnel = {
            let session = session.clone();
            tasks::spawn(async move { buildkit_session_grpchijack::open(channel, &session).await })
        };

        let (activity, watched) = watch::channel(Instant::now());
        let status = tasks::spawn(watch_status(self.clone(), request.reference.clone(), progress, activity));

        let result = tokio::select! {
            result = self.run(solve, request) => result,
            error = session_error(tunnel) => Err(error),
            () = cancel.cancelled() => Err(Error::Canceled),
        };
        finish_status(status, watched).await;
        let response = result?;
        let finished = tasks::spawn_blocking(move || stores.finish(&response.exporter).map(|()| response));
        finished.await.map_err(|error| Error::Session(error.to_string()))?
    }

    /// The solve and, beside it, the bridge that hands it the result.
    async fn run(&self, solve: control::SolveRequest, request: BuildRequest) -> Result<BuildResponse> {
        let mut client = self.control();
        let solving = async { client.solve(solve).await.map_err(|status| Error::Solve(remote(&status))) };
        let bridging = self.run_bridge(request);
        tokio::pin!(solving, bridging);
        tokio::select! {
            solved = &mut solving => {
                let exporter = solved?.into_inner().exporter_response;
                // The result was taken, so the bridge is about to say so too.
                let bridged = tokio::time::timeout(STATUS_PATIENCE, bridging).await;
                let metadata = bridged.ok().and_then(std::result::Result::ok).unwrap_or_default();
                Ok(BuildResponse { exporter, metadata })
            }
            bridged = &mut bridging => match bridged {
                Ok(metadata) => {
                    let exporter = solving.await?.into_inner().exporter_response;
                    Ok(BuildResponse { exporter, metadata })
                }
                // The solve reports the same error, with more words.
                Err(error) => match tokio::time::timeout(STATUS_PATIENCE, &mut solving).await {
                    Ok(Err(solve_error)) => Err(solve_error),
                    Ok(Ok(_)) | Err(_) => Err(Error::Solve(remote(&error))),
                },
            },
        }
    }

    /// Solves over the bridge and returns what came of it to the build.
    async fn run_bridge(
        &self,
        request: BuildRequest,
    ) -> std::result::Result<BTreeMap<String, Vec<u8>>, Status> {
        let mut bridge = self.bridge();
        let id = AsciiMetadataValue::try_from(request.reference.as_str())
            .map_err(|_| Status::invalid_argument("Build reference is not ASCII"))?;
        let mut options = request.frontend.options;
        if options.contains_key("requestid") {
            options
                .entry("frontend.caps".to_owned())
                .or_insert_with(|| "moby.buildkit.frontend.subrequests".to_owned());
        }
        let solve = gateway::SolveRequest {
            definition: request.definition,
            frontend: request.frontend.name,
            frontend_opt: options,
            allow_result_return: true,
            allow_result_array_ref: true,
            cache_imports: request
                .cache_imports
                .into_iter()
                .map(|option| gateway::CacheOptionsEntry { r#type: option.kind, attrs: option.attrs })
                .collect(),
            source_policies: request.source_policy.into_iter().collect(),
            ..gateway::SolveRequest::default()
        };
        let solved = bridge.solve(with_id(solve, &id)).await;
        let (answer, solved) = match solved {
            Ok(response) => {
                let response = response.into_inner();
                let result = response.result.unwrap_or_default();
                let metadata = result.metadata.clone();
                (
                    gateway::ReturnRequest { result: Some(result), error: None },
                    Ok(metadata.into_iter().map(|(key, value)| (key, value.to_vec())).collect()),
                )
            }
            Err(status) => {
                let error = remote(&status).to_rpc();
                (gateway::ReturnRequest { result: None, error: Some(error) }, Err(status))
            }
        };
        let returned = bridge.r#return(with_id(answer, &id)).await;
        match (solved, returned) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(metadata), Ok(_)) => Ok(metadata),
        }
    }
}

fn with_id<T>(message: T, id: &AsciiMetadataValue) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(BUILD_ID, id.clone());
    request
}

fn check(request: &BuildRequest) -> Result<()> {
    let has_frontend = !request.frontend.name.is_empty();
    match &request.definition {
        Some(_) if has_frontend => {
            let name = &request.frontend.name;
            return Err(Error::settings(format!("invalid definition for frontend {name}")));
        }
        None if !has_frontend => return Err(Error::settings("invalid empty definition")),
        _ => {}
    }
    for export in &request.exports {
        let kind = &export.kind;
        match (kind.as_str(), &export.target) {
            ("local", ExportTarget::Directory(_)) if deletes(export).is_none() => {
                let mode = export.attrs.get("mode").cloned().unwrap_or_default();
                return Err(Error::settings(format!("invalid local exporter mode {mode:?}")));
            }
            ("local", ExportTarget::Directory(_))
            | ("tar" | "oci" | "docker", ExportTarget::File(_))
            | ("oci" | "docker", ExportTarget::Directory(_) | ExportTarget::Store(_)) => {}
            ("local", _) => {
                return Err(Error::settings("output directory is required for local exporter"));
            }
            ("tar" | "oci" | "docker", _) => {
                return Err(Error::settings(format!("output file writer is required for {kind} exporter")));
            }
            (_, ExportTarget::None) => {}
            (_, ExportTarget::Directory(_)) => {
                return Err(Error::settings(format!("output directory is not supported by {kind} exporter")));
            }
            (_, ExportTarget::Store(_)) => {
                return Err(Error::settings(format!("output store is not supported by {kind} exporter")));
            }
            (_, ExportTarget::File(_)) => {
                return Err(Error::settings(format!(
                    "output file writer is not supported by {kind} exporter"
                )));
            }
        }
    }
    Ok(())
}

fn solve_request(request: &BuildRequest, session: &str) -> control::SolveRequest {
    let entries = |options: &[CacheOption]| {
        options
            .iter()
            .map(|option| control::CacheOptionsEntry {
                r#type: option.kind.clone(),
                attrs: option.attrs.clone(),
            })
            .collect()
    };
    let mut frontend_attrs = request.frontend.options.clone();
    if !request.cache_imports.is_empty() {
        let imports: Vec<_> = request
            .cache_imports
            .iter()
            .map(|option| serde_json::json!({ "Type": option.kind, "Attrs": option.attrs }))
            .collect();
        frontend_attrs.insert(CACHE_IMPORTS.to_owned(), serde_json::Value::from(imports).to_string());
    }
    let exporters: Vec<_> = request
        .exports
        .iter()
        .map(|export| control::Exporter { r#type: export.kind.clone(), attrs: export.attrs.clone() })
        .collect();
    // Daemons of the time before several exporters know only the old fields.
    let first = exporters.first().cloned().unwrap_or_default();
    control::SolveRequest {
        r#ref: request.reference.clone(),
        exporter_deprecated: first.r#type,
        exporter_attrs_deprecated: first.attrs,
        session: session.to_owned(),
        frontend_attrs,
        cache: Some(control::CacheOptions {
            exports: entries(&request.cache_exports),
            imports: entries(&request.cache_imports),
            ..control::CacheOptions::default()
        }),
        entitlements: request.entitlements.clone(),
        internal: request.internal,
        source_policy: request.source_policy.clone(),
        exporters,
        proxy_network: request.proxy_network,
        ..control::SolveRequest::default()
    }
}

/// Waits until the session fails; one that ends without an error is not waited for.
async fn session_error(
    tunnel: tasks::TaskGuard<std::result::Result<(), buildkit_session_grpchijack::Error>>,
) -> Error {
    match tunnel.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(buildkit_session_grpchijack::Error::Open(status))) => {
            Error::request("failed to open session", &status)
        }
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            Error::Session(format!("{error}{}", cause.unwrap_or_default()))
        }
        Err(error) => Error::Session(error.to_string()),
    }
}

/// Hands the build's progress on.
async fn watch_status(
    client: Client,
    reference: String,
    progress: mpsc::Sender<SolveStatus>,
    activity: watch::Sender<Instant>,
) {
    let mut control = client.control();
    let mut messages = match control.status(StatusRequest { r#ref: reference }).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            tracing::debug!(%status, "no progress");
            return;
        }
    };
    loop {
        match messages.message().await {
            Ok(Some(message)) => {
                activity.send_replace(Instant::now());
                if progress.send(status::from_message(message)).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "progress ended early");
                return;
            }
        }
    }
}

/// Waits for the rest of the progress of a build that is over.
async fn finish_status(mut task: tasks::TaskGuard<()>, watched: watch::Receiver<Instant>) {
    let over = Instant::now();
    loop {
        let deadline = over.max(*watched.borrow()) + STATUS_PATIENCE;
        match tokio::time::timeout_at(deadline, &mut task).await {
            Ok(_) => return,
            Err(_) if *watched.borrow() + STATUS_PATIENCE > Instant::now() => {}
            Err(_) => return,
        }
    }
}
