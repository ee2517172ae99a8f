use std::sync::Arc;

use buildkit_frontend_gateway::BridgeForwarder;
use buildkit_frontend_gateway_pb as pb;
use buildkit_frontend_gateway_pb::llb_bridge_server::LlbBridge;
use buildkit_util_grpcerrors::RemoteError;
use tonic::{Request, Response, Status, Streaming};

use crate::{ActiveBuilds, BUILD_ID_KEY};

/// The `LLBBridge` service of the daemon.
pub struct GatewayService {
    builds: ActiveBuilds,
}

impl GatewayService {
    /// A service for these builds.
    pub fn new(builds: ActiveBuilds) -> Self {
        Self { builds }
    }

    /// The build that a call belongs to; `call` is its name for errors.
    async fn build<T>(&self, call: &str, request: &Request<T>) -> Result<Arc<BridgeForwarder>, Status> {
        let id = request
            .metadata()
            .get(BUILD_ID_KEY)
            .and_then(|value| value.to_str().ok())
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Status::unknown(format!("forwarding {call}: no buildid found in context")))?;
        self.builds.get(id).await.map_err(|error| {
            let message = format!("forwarding {call}: {}", error.message);
            RemoteError { message, ..error }.into()
        })
    }
}

fn answer<T>(result: Result<T, RemoteError>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(Status::from)
}

/// Calls that this daemon does not serve, by name.
fn unimplemented<T>(call: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("LLBBridge.{call} is not implemented by this daemon")))
}

#[tonic::async_trait]
impl LlbBridge for GatewayService {
    type ExecProcessStream = futures::stream::Empty<Result<pb::ExecMessage, Status>>;

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PongResponse>, Status> {
        Ok(Response::new(self.build("Ping", &request).await?.ping()))
    }

    async fn solve(&self, request: Request<pb::SolveRequest>) -> Result<Response<pb::SolveResponse>, Status> {
        let build = self.build("Solve", &request).await?;
        answer(build.solve(request.into_inner()).await)
    }

    async fn read_file(
        &self,
        request: Request<pb::ReadFileRequest>,
    ) -> Result<Response<pb::ReadFileResponse>, Status> {
        let build = self.build("ReadFile", &request).await?;
        answer(build.read_file(request.into_inner()).await)
    }

    async fn read_dir(
        &self,
        request: Request<pb::ReadDirRequest>,
    ) -> Result<Response<pb::ReadDirResponse>, Status> {
        let build = self.build("ReadDir", &request).await?;
        answer(build.read_dir(request.into_inner()).await)
    }

    async fn stat_file(
        &self,
        request: Request<pb::StatFileRequest>,
    ) -> Result<Response<pb::StatFileResponse>, Status> {
        let build = self.build("StatFile", &request).await?;
        answer(build.stat_file(request.into_inner()).await)
    }

    async fn evaluate(
        &self,
        request: Request<pb::EvaluateRequest>,
    ) -> Result<Response<pb::EvaluateResponse>, Status> {
        let build = self.build("Evaluate", &request).await?;
        answer(build.evaluate(request.into_inner()).await)
    }

    async fn r#return(
        &self,
        request: Request<pb::ReturnRequest>,
    ) -> Result<Response<pb::ReturnResponse>, Status> {
        let build = self.build("Return", &request).await?;
        answer(build.r#return(request.into_inner()))
    }

    async fn inputs(
        &self,
        request: Request<pb::InputsRequest>,
    ) -> Result<Response<pb::InputsResponse>, Status> {
        answer(self.build("Inputs", &request).await?.inputs().await)
    }

    async fn warn(&self, request: Request<pb::WarnRequest>) -> Result<Response<pb::WarnResponse>, Status> {
        let build = self.build("Warn", &request).await?;
        answer(build.warn(request.into_inner()).await)
    }

    async fn resolve_image_config(
        &self,
        request: Request<pb::ResolveImageConfigRequest>,
    ) -> Result<Response<pb::ResolveImageConfigResponse>, Status> {
        let build = self.build("ResolveImageConfig", &request).await?;
        answer(build.resolve_image_config(request.into_inner()).await)
    }

    async fn resolve_source_meta(
        &self,
        request: Request<pb::ResolveSourceMetaRequest>,
    ) -> Result<Response<pb::ResolveSourceMetaResponse>, Status> {
        let build = self.build("ResolveSourceMeta", &request).await?;
        answer(build.resolve_source_meta(request.into_inner()).await)
    }

    async fn new_container(
        &self,
        _request: Request<pb::NewContainerRequest>,
    ) -> Result<Response<pb::NewContainerResponse>, Status> {
        unimplemented("NewContainer")
    }

    async fn release_container(
        &self,
        _request: Request<pb::ReleaseContainerRequest>,
    ) -> Result<Response<pb::ReleaseContainerResponse>, Status> {
        unimplemented("ReleaseContainer")
    }

    async fn exec_process(
        &self,
        _request: Request<Streaming<pb::ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        unimplemented("ExecProcess")
    }

    async fn read_file_container(
        &self,
        _request: Request<pb::ReadFileRequest>,
    ) -> Result<Response<pb::ReadFileResponse>, Status> {
        unimplemented("ReadFileContainer")
    }

    async fn read_dir_container(
        &self,
        _request: Request<pb::ReadDirRequest>,
    ) -> Result<Response<pb::ReadDirResponse>, Status> {
        unimplemented("ReadDirContainer")
    }

    async fn stat_file_container(
        &self,
        _request: Request<pb::StatFileRequest>,
    ) -> Result<Response<pb::StatFileResponse>, Status> {
        unimplemented("StatFileContainer")
    }
}
