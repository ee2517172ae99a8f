//! One `Control.Solve` call.

use std::sync::Arc;

use buildkit_api_services_control::{SolveRequest, SolveResponse};
use buildkit_errdefs::Kind;
use buildkit_exporter::ExporterInstance;
use buildkit_frontend::{BridgeError, CacheImport, FrontendResult, SolveRequest as BridgeRequest};
use buildkit_frontend_gateway::{BridgeForwarder, ForwarderOptions};
use buildkit_solver_llbsolver::{Build, BuildOptions, Delivered};
use buildkit_solver_llbsolver_history::TraceParent;
use buildkit_util_grpcerrors::RemoteError;
use tokio::sync::watch;

use crate::service::Control;
use crate::{convert, history, request};

/// Counts a build for as long as it runs.
struct Running<'a>(&'a watch::Sender<usize>);

impl<'a> Running<'a> {
    fn new(running: &'a watch::Sender<usize>) -> Self {
        running.send_modify(|count| *count += 1);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Control {
    /// Runs a build to its end. Dropping the future cancels it: so does a client that leaves.
    pub(crate) async fn run_solve(
        &self,
        mut request: SolveRequest,
        parent: Option<TraceParent>,
    ) -> Result<SolveResponse, BridgeError> {
        let shared = &self.shared;
        let _running = Running::new(&shared.running);
        let result = tokio::select! {
            result = self.solve_now(&mut request, parent) => result,
            () = shared.stop.cancelled() => {
                Err(RemoteError::new(Kind::Unavailable, "Daemon is shutting down").into())
            }
        };
        shared.collector.wake();
        result
    }

    async fn solve_now(
        &self,
        request: &mut SolveRequest,
        parent: Option<TraceParent>,
    ) -> Result<SolveResponse, BridgeError> {
        let options = &self.shared.options;
        request::modernise(request);
        request::check(request)?;
        request::spread_epoch(request);
        request::use_builtin_frontend(request);
        let worker = options.workers.default_worker().map_err(|error| RemoteError::from_error(&error))?;
        let exporters = request
            .exporters
            .iter()
            .enumerate()
            .map(|(index, exporter)| {
                worker
                    .exporters()
                    .resolve(index, &exporter.r#type, &exporter.attrs)
                    .map_err(|error| RemoteError::from_error(&error).of_build())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let build = options.solver.begin(BuildOptions {
            id: request.r#ref.clone(),
            session_id: request.session.clone(),
            compatibility: request::compatibility(request)?,
            inline_cache: request::inline_cache(request),
            cache_exports: request::cache_exports(request),
            entitlements: std::mem::take(&mut request.entitlements),
            source_policy: request.source_policy.take(),
            source_policy_session: std::mem::take(&mut request.source_policy_session),
            platforms: request
                .frontend_attrs
                .get("platform")
                .map(|list| list.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
        })?;
        // Dropped with this future, it notes that the build was given up.
        let recording = self.record(&build, request, parent);
        let delivered = self.deliver(&build, request, exporters).await;
        let response = match &delivered {
            Ok(delivered) => Ok(SolveResponse { exporter_response: delivered.response.clone() }),
            Err(error) => Err(error.clone()),
        };
        if let Some(recording) = recording {
            recording.finish(history::outcome(delivered));
        }
        response
    }

    /// Has the result made and delivers it.
    async fn deliver(
        &self,
        build: &Build,
        request: &mut SolveRequest,
        exporters: Vec<Arc<dyn ExporterInstance>>,
    ) -> Result<Delivered, BridgeError> {
        let is_driven_by_client = request.definition.is_none() && request.frontend.is_empty();
        let result = if is_driven_by_client {
            self.drive(build, request).await?
        } else {
            build
                .bridge()
                .solve(BridgeRequest {
                    evaluate: false,
                    definition: request.definition.take(),
                    frontend: std::mem::take(&mut request.frontend),
                    frontend_opt: std::mem::take(&mut request.frontend_attrs),
                    frontend_inputs: std::mem::take(&mut request.frontend_inputs),
                    cache_imports: std::mem::take(&mut request.cache.get_or_insert_default().imports)
                        .into_iter()
                        .map(|import| CacheImport { kind: import.r#type, attrs: import.attrs })
                        .collect(),
                    source_policies: Vec::new(),
                })
                .await?
        };
        build.finish(result, exporters).await
    }

    /// Lets the client drive the build over the bridge service until it returns a result.
    async fn drive(&self, build: &Build, request: &mut SolveRequest) -> Result<FrontendResult, BridgeError> {
        let options = &self.shared.options;
        let workers = options.workers.workers().iter();
        let forwarder = Arc::new(BridgeForwarder::new(
            build.bridge(),
            ForwarderOptions {
                workers: workers.map(|worker| convert::worker(worker.info())).collect(),
                frontend_caps: options.frontend_caps.all(),
                llb_caps: options.llb_caps.all(),
                inputs: std::mem::take(&mut request.frontend_inputs),
            },
        ));
        let _registration = options.builds.register(&request.r#ref, forwarder.clone());
        forwarder.wait().await
    }
}
