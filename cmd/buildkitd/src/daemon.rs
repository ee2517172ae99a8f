//! The daemon's life: lock, listen, open, serve, drain.

use std::time::Duration;

use anyhow::Context as _;
use buildkit_api_services_control::FILE_DESCRIPTOR_SET;
use buildkit_api_services_control::control_server::ControlServer;
use buildkit_api_services_trace::trace_service_server::TraceServiceServer;
use buildkit_control::{Control, NoTraces};
use buildkit_control_gateway::GatewayService;
use buildkit_frontend_gateway_pb::llb_bridge_server::LlbBridgeServer;
use buildkit_session::MAX_MESSAGE_SIZE;
use buildkit_util_appcontext::{self as tasks, shutdown_signals};
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};

use crate::WorkerKinds;
use crate::listen::{bind, serve};
use crate::lock::lock_root;
use crate::settings::Settings;
use crate::wire::wire;

/// How long running builds may go on after the first signal.
const DRAIN: Duration = Duration::from_secs(10);

/// How long cancelled builds may take to clean up.
const CANCEL: Duration = Duration::from_secs(5);

/// Runs the daemon until a signal ends it.
pub(crate) async fn run(settings: Settings, kinds: WorkerKinds) -> anyhow::Result<()> {
    let (first, second) = shutdown_signals().context("failed to handle signals")?;
    let lock = lock_root(&settings.root)?;
    // Clients that come while the stores are opened wait in the listeners' queues.
    let listeners = bind(&settings.config.grpc).await?;
    let daemon = wire(&settings, kinds).await?;
    let routes = routes(&daemon.control, &daemon.gateway).await?;

    let stop = CancellationToken::new();
    let addresses = settings.config.grpc.address.join(", ");
    let servers: Vec<_> = listeners
        .into_iter()
        .map(|listener| tasks::spawn(serve(listener, routes.clone(), stop.clone())))
        .collect();
    tracing::info!("running server on {addresses}");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let mut servers = futures::future::join_all(servers);
    let result = tokio::select! {
        () = first.cancelled() => Ok(()),
        ended = &mut servers => ended
            .into_iter()
            .find_map(|server| server.map_err(anyhow::Error::from).and_then(|result| result).err())
            .map_or(Ok(()), Err),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping server");
    stop.cancel();
    drain(&daemon.control, &second).await;
    for worker in daemon.workers.workers() {
        worker.close().await;
    }
    drop(lock);
    result
}

/// Lets builds finish for a while, then cancels them.
async fn drain(control: &Control, second: &CancellationToken) {
    let finished = tokio::select! {
        () = control.drained() => true,
        () = second.cancelled() => false,
        () = tokio::time::sleep(DRAIN) => false,
    };
    if !finished {
        tracing::warn!("cancelling builds that still run");
        control.cancel_builds();
        let _ = tokio::time::timeout(CANCEL, control.drained()).await;
    }
}

async fn routes(
    control: &Control,
    gateway: &buildkit_control_gateway::ActiveBuilds,
) -> anyhow::Result<Routes> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("failed to describe the services")?;
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(
            ControlServer::new(control.clone())
                .max_decoding_message_size(MAX_MESSAGE_SIZE)
                .max_encoding_message_size(MAX_MESSAGE_SIZE),
        )
        .add_service(
            LlbBridgeServer::new(GatewayService::new(gateway.clone()))
                .max_decoding_message_size(MAX_MESSAGE_SIZE)
                .max_encoding_message_size(MAX_MESSAGE_SIZE),
        )
        .add_service(TraceServiceServer::new(NoTraces).max_decoding_message_size(MAX_MESSAGE_SIZE))
        .add_service(health)
        .add_service(reflection);
    Ok(routes.routes())
}
