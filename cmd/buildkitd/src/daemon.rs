//! The daemon's life: lock, listen, open, serve, drain.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use buildkit_api_services_control::FILE_DESCRIPTOR_SET;
use buildkit_api_services_control::control_server::ControlServer;
use buildkit_api_services_trace::trace_service_server::TraceServiceServer;
use buildkit_control::{Control, NoTraces};
use buildkit_control_gateway::GatewayService;
use buildkit_frontend_gateway_pb::llb_bridge_server::LlbBridgeServer;
use buildkit_session::MAX_MESSAGE_SIZE;
use buildkit_session_content::ContentService;
use buildkit_util_appcontext::{self as tasks, shutdown_signals};
use buildkit_util_contentutil::ReadOnly;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};

use crate::WorkerKinds;
use crate::listen::{bind, serve};
use crate::lock::lock_root;
use crate::settings::Settings;
use crate::wire::{Daemon, wire};

/// How long running builds may go on after the first signal.
const DRAIN: Duration = Duration::from_secs(10);

/// How long cancelled builds may take to clean up.
const CANCEL: Duration = Duration::from_secs(5);

/// How long clients may take to hear the last answers and leave, when no build runs any more.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the daemon until a signal ends it.
pub(crate) async fn run(settings: Settings, kinds: WorkerKinds) -> anyhow::Result<()> {
    let (first, second) = shutdown_signals().context("failed to handle signals")?;
    let lock = lock_root(&settings.root)?;
    // Clients that come while the stores are opened wait in the listeners' queues.
    let listeners = bind(&settings.config.grpc).await?;
    let daemon = wire(&settings, kinds).await?;
    let routes = routes(&daemon).await?;

    let stop = CancellationToken::new();
    let addresses = settings.config.grpc.address.join(", ");
    let servers: Vec<_> = listeners
        .into_iter()
        .map(|listener| tasks::spawn(serve(listener, routes.clone(), stop.clone())))
        .collect();
    tracing::info!("running server on {addresses}");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let mut servers = futures::future::join_all(servers);
    let ended = tokio::select! {
        () = first.cancelled() => None,
        ended = &mut servers => Some(ended),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping server");
    stop.cancel();
    drain(&daemon.control, &second).await;
    daemon.history.close().await;
    if ended.is_none() {
        // Those who wait for builds are to be told how they ended.
        let _ = tokio::time::timeout(FAREWELL, &mut servers).await;
    }
    for worker in daemon.workers.workers() {
        worker.close().await;
    }
    drop(lock);
    let failed = |server: Result<anyhow::Result<()>, _>| server.map_err(anyhow::Error::from).flatten().err();
    ended.into_iter().flatten().find_map(failed).map_or(Ok(()), Err)
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

async fn routes(daemon: &Daemon) -> anyhow::Result<Routes> {
    let Daemon { control, gateway, content, .. } = daemon;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let mut routes = RoutesBuilder::default();
    add_reflection(&mut routes)?;
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
        .add_service(ContentService::of_daemon(Arc::new(ReadOnly(content.clone()))).service())
        .add_service(TraceServiceServer::new(NoTraces).max_decoding_message_size(MAX_MESSAGE_SIZE))
        .add_service(health);
    Ok(routes.routes())
}

/// Describes all services, in the current form and in the one that older tools ask for.
fn add_reflection(routes: &mut RoutesBuilder) -> anyhow::Result<()> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let context = "failed to describe the services";
    routes
        .add_service(builder().build_v1().context(context)?)
        .add_service(builder().build_v1alpha().context(context)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of services, asked for in the form of one version of the protocol.
    macro_rules! services {
        ($version:ident, $routes:expr) => {{
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let mut client = ServerReflectionClient::new($routes);
            let ask = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let answers = client.server_reflection_info(tokio_stream::once(ask)).await.expect("an answer");
            let answer = answers.into_inner().message().await.expect("a message").expect("one message");
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("{answer:?}");
            };
            list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
        }};
    }

    #[tokio::test]
    async fn both_forms_of_reflection_name_all_services() {
        let mut routes = RoutesBuilder::default();
        add_reflection(&mut routes).expect("descriptors are sound");
        let routes = routes.routes();
        for found in [services!(v1, routes.clone()), services!(v1alpha, routes)] {
            for name in [
                "moby.buildkit.v1.Control",
                "moby.buildkit.v1.frontend.LLBBridge",
                "opentelemetry.proto.collector.trace.v1.TraceService",
                "grpc.health.v1.Health",
            ] {
                assert!(found.iter().any(|known| known == name), "{name}: {found:?}");
            }
        }
    }
}
