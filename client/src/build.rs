use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use buildkit_api_services_control::{self as control, StatusRequest, status};
use buildkit_frontend_gateway_client::BuildFunction;
use buildkit_frontend_gateway_grpcclient::{GrpcClient, Settings};
use buildkit_session::SessionServer;
use buildkit_util_appcontext as tasks;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::SolveStatus;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attach::{attach, deletes};
use crate::error::remote;
use crate::one_solve::OneSolve;
use crate::request::CacheOption;
use crate::stores::Stores;
use crate::{BuildRequest, BuildResponse, Client, Error, Export, ExportTarget, Result};

/// Who frontends in this process run for.
const PRODUCT: &str = "buildkit";
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
        request: BuildRequest,
        progress: mpsc::Sender<SolveStatus>,
        cancel: CancellationToken,
    ) -> Result<BuildResponse> {
        check_graph(&request)?;
        // Made of the request as it is sent: with the digests of local caches.
        self.run_prepared(request, |request| Arc::new(OneSolve::of(request)), progress, cancel).await
    }

    /// Runs a build that a frontend in this process makes: the definition and the name of a frontend in the request are
    /// not heeded, its options are those that the function is told.
    ///
    /// # Errors
    /// When the build fails or is given up, or the daemon is lost.
    pub async fn build_with(
        &self,
        request: BuildRequest,
        function: Arc<dyn BuildFunction>,
        progress: mpsc::Sender<SolveStatus>,
        cancel: CancellationToken,
    ) -> Result<BuildResponse> {
        self.run_prepared(request, |_| function, progress, cancel).await
    }

    /// Runs a build that a function makes of the request when its stores are prepared.
    async fn run_prepared(
        &self,
        mut request: BuildRequest,
        function: impl FnOnce(&BuildRequest) -> Arc<dyn BuildFunction>,
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
        let function = function(&request);
        let solve = solve_request(&request, session.id());
        let settings = Settings {
            build_id: request.reference.clone(),
            opts: solve.frontend_attrs.clone(),
            session_id: session.id().to_owned(),
            product: PRODUCT.to_owned(),
            workers: Vec::new(),
        };
        let session = Arc::new(session);
        let channel = self.channel();
        let tunnel = {
            let session = session.clone();
            tasks::spawn(async move { buildkit_session_grpchijack::open(channel, &session).await })
        };

        let (activity, watched) = watch::channel(Instant::now());
        let status = tasks::spawn(watch_status(self.clone(), request.reference.clone(), progress, activity));

        let result = tokio::select! {
            result = self.run(solve, settings, &*function) => result,
            error = session_error(tunnel) => Err(error),
            () = cancel.cancelled() => Err(Error::Canceled),
        };
        finish_status(status, watched).await;
        let response = result?;
        let finished = tasks::spawn_blocking(move || stores.finish(&response.exporter).map(|()| response));
        finished.await.map_err(|error| Error::Session(error.to_string()))?
    }

    /// The solve and, beside it, the frontend that hands it the result.
    async fn run(
        &self,
        solve: control::SolveRequest,
        settings: Settings,
        function: &dyn BuildFunction,
    ) -> Result<BuildResponse> {
        let mut client = self.control();
        let solving = async { client.solve(solve).await.map_err(|status| Error::Solve(remote(&status))) };
        let bridging = self.run_frontend(settings, function);
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
                    Ok(Ok(_)) | Err(_) => Err(Error::Solve(error)),
                },
            },
        }
    }

    /// Runs a frontend over the bridge, which returns its result to the build; the metadata of that.
    async fn run_frontend(
        &self,
        settings: Settings,
        function: &dyn BuildFunction,
    ) -> std::result::Result<BTreeMap<String, Vec<u8>>, RemoteError> {
        let client = Arc::new(GrpcClient::new(self.channel(), settings).await?);
        let metadata = client.run(function).await?;
        Ok(metadata.into_iter().map(|(key, value)| (key, value.to_vec())).collect())
    }
}

/// A request names a graph or who makes one.
fn check_graph(request: &BuildRequest) -> Result<()> {
    let has_frontend = !request.frontend.name.is_empty();
    match &request.definition {
        Some(_) if has_frontend => {
            let name = &request.frontend.name;
            Err(Error::settings(format!("invalid definition for frontend {name}")))
        }
        None if !has_frontend => Err(Error::settings("invalid empty definition")),
        _ => Ok(()),
    }
}

fn check(request: &BuildRequest) -> Result<()> {
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
        frontend_inputs: request.frontend_inputs.clone(),
        cache: Some(control::CacheOptions {
            exports: entries(&request.cache_exports),
            imports: entries(&request.cache_imports),
            ..control::CacheOptions::default()
        }),
        entitlements: request.entitlements.clone(),
        internal: request.internal,
        source_policy: request.source_policy.clone(),
        source_policy_session: match request.source_policy_verifier {
            Some(_) => session.to_owned(),
            None => String::new(),
        },
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
