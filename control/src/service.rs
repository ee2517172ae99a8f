use std::sync::Arc;
use std::time::SystemTime;

use buildkit_api_services_control as api;
use buildkit_api_services_control::control_server::Control as ControlApi;
use buildkit_cache::GcPolicy;
use buildkit_control_gateway::ActiveBuilds;
use buildkit_errdefs::Kind;
use buildkit_session::SessionManager;
use buildkit_session_grpchijack::SessionStream;
use buildkit_solver_llbsolver::LlbSolver;
use buildkit_solver_llbsolver_history::{BuildHistory, TraceParent};
use buildkit_util_apicaps::CapList;
use buildkit_util_appcontext as tasks;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_worker::WorkerController;
use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{GarbageCollector, collect, convert};

/// Response header with the daemon's time, for clients whose clock differs.
const TIMESTAMP_HEADER: &str = "buildkit-current-timestamp";

/// Request header with the span of a client that a call belongs to.
const TRACE_HEADER: &str = "traceparent";

/// What the service works with.
pub struct ControlOptions {
    /// Builds.
    pub solver: LlbSolver,
    /// Sessions of clients.
    pub sessions: SessionManager,
    /// Workers.
    pub workers: WorkerController,
    /// Builds that clients drive over the bridge service.
    pub builds: ActiveBuilds,
    /// Records of builds.
    pub history: BuildHistory,
    /// Capabilities of ops.
    pub llb_caps: CapList,
    /// Capabilities of the bridge.
    pub frontend_caps: CapList,
}

/// The Control service. Clones are the same service.
#[derive(Clone)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) options: ControlOptions,
    pub(crate) collector: GarbageCollector,
    /// Number of builds that run.
    pub(crate) running: watch::Sender<usize>,
    /// Ends all builds.
    pub(crate) stop: CancellationToken,
}

impl Control {
    /// The service; starts collecting garbage.
    pub fn new(options: ControlOptions) -> Self {
        let collector = GarbageCollector::start(options.workers.clone(), options.solver.clone());
        Self {
            shared: Arc::new(Shared {
                options,
                collector,
                running: watch::Sender::new(0),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// Waits until no build runs.
    pub async fn drained(&self) {
        let mut running = self.shared.running.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = running.wait_for(|count| *count == 0).await;
    }

    /// Cancels all builds, now and in future.
    pub fn cancel_builds(&self) {
        self.shared.stop.cancel();
    }

    fn prune_policy(request: api::PruneRequest) -> GcPolicy {
        GcPolicy {
            all: request.all,
            filters: request.filter,
            keep_duration: convert::duration(request.keep_duration),
            reserved_space: request.reserved_space,
            max_used_space: request.max_used_space,
            min_free_space: request.min_free_space,
        }
    }
}

fn with_time<T>(message: T) -> Response<T> {
    let mut response = Response::new(message);
    let now = prost_types::Timestamp::from(SystemTime::now()).to_string();
    if let Ok(value) = now.parse() {
        response.metadata_mut().insert(TIMESTAMP_HEADER, value);
    }
    response
}

#[tonic::async_trait]
impl ControlApi for Control {
    type PruneStream = BoxStream<'static, Result<api::UsageRecord, Status>>;
    type StatusStream = BoxStream<'static, Result<api::StatusResponse, Status>>;
    type SessionStream = SessionStream;
    type ListenBuildHistoryStream = BoxStream<'static, Result<api::BuildHistoryEvent, Status>>;

    async fn disk_usage(
        &self,
        request: Request<api::DiskUsageRequest>,
    ) -> Result<Response<api::DiskUsageResponse>, Status> {
        let request = request.into_inner();
        let age_limit = (request.age_limit > 0).then(|| convert::duration(request.age_limit));
        let mut record = Vec::new();
        for worker in self.shared.options.workers.workers() {
            let records = worker
                .cache()
                .disk_usage(&request.filter, age_limit)
                .await
                .map_err(|error| RemoteError::from_error(&error))?;
            record.extend(records.into_iter().map(convert::usage));
        }
        Ok(Response::new(api::DiskUsageResponse { record }))
    }

    async fn prune(
        &self,
        request: Request<api::PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        let policy = [Self::prune_policy(request.into_inner())];
        // Not longer than the list of records, however slow the client reads: totals are made of it.
        let (sender, receiver) = mpsc::unbounded_channel();
        let workers = self.shared.options.workers.clone();
        let solver = self.shared.options.solver.clone();
        // What the planner chose is deleted even if the client leaves before it hears of it.
        tasks::detach("prune", async move {
            for worker in workers.workers() {
                let freed = |record| {
                    // A client that has left loses the report, not the work.
                    let _ = sender.send(Ok(convert::usage(record)));
                };
                if let Err(error) = worker.cache().prune(&policy, freed).await {
                    let _ = sender.send(Err(RemoteError::from_error(&error).into()));
                }
            }
            collect::release_keys(&solver).await;
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn solve(
        &self,
        request: Request<api::SolveRequest>,
    ) -> Result<Response<api::SolveResponse>, Status> {
        let parent = request.metadata().get(TRACE_HEADER).and_then(|header| header.to_str().ok());
        let parent = parent.and_then(TraceParent::parse);
        let response =
            self.run_solve(request.into_inner(), parent).await.map_err(|error| Status::from(error.error))?;
        Ok(Response::new(response))
    }

    async fn status(
        &self,
        request: Request<api::StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        Ok(with_time(self.progress_of(&request.into_inner().r#ref).await?))
    }

    async fn session(
        &self,
        request: Request<Streaming<api::BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Ok(Response::new(buildkit_session_grpchijack::serve(&self.shared.options.sessions, request)))
    }

    async fn list_workers(
        &self,
        request: Request<api::ListWorkersRequest>,
    ) -> Result<Response<api::ListWorkersResponse>, Status> {
        let filters = request.into_inner().filter;
        let filter = buildkit_cache::Filter::parse(&filters)
            .map_err(|error| RemoteError::new(Kind::InvalidArgument, error.to_string()))?;
        let record = self
            .shared
            .options
            .workers
            .workers()
            .iter()
            .map(|worker| worker.info())
            .filter(|info| {
                filter.matches(&|path: &[&str]| match path {
                    ["id"] => Some(info.id.clone()),
                    ["labels", key @ ..] => info.labels.get(&key.join(".")).cloned(),
                    _ => None,
                })
            })
            .map(convert::worker)
            .collect();
        Ok(Response::new(api::ListWorkersResponse { record }))
    }

    async fn info(&self, _request: Request<api::InfoRequest>) -> Result<Response<api::InfoResponse>, Status> {
        Ok(Response::new(api::InfoResponse { buildkit_version: Some(convert::version()) }))
    }

    async fn listen_build_history(
        &self,
        request: Request<api::BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let events = self.shared.options.history.listen(request.into_inner()).await;
        let events = events.map_err(|error| RemoteError::from_error(&error))?;
        let events = events.map(|event| event.map_err(|error| RemoteError::from_error(&error).into()));
        Ok(with_time(events.boxed()))
    }

    async fn update_build_history(
        &self,
        request: Request<api::UpdateBuildHistoryRequest>,
    ) -> Result<Response<api::UpdateBuildHistoryResponse>, Status> {
        let updated = self.shared.options.history.update(request.into_inner()).await;
        updated.map_err(|error| RemoteError::from_error(&error))?;
        Ok(Response::new(api::UpdateBuildHistoryResponse {}))
    }
}
