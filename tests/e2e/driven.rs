//! Builds that their client drives call by call.

use buildkit_api_services_control::{Exporter, SolveRequest, SolveResponse};
use buildkit_frontend_gateway_pb as gw;
use buildkit_frontend_gateway_pb::llb_bridge_client::LlbBridgeClient;
use buildkit_solver_pb as pb;
use buildkit_util_appcontext::{TaskGuard, spawn};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::client::{MAX_MESSAGE, build_id, solve_request};
use crate::graph::{Graph, file, mkdir};

/// A small definition with metadata.
pub fn definition() -> pb::Definition {
    let mut graph = Graph::default();
    let last = graph.add(&file(vec![], vec![mkdir(-1, 0)]));
    let mut definition = graph.finish(&last);
    let metadata = pb::OpMetadata {
        description: pb::map::from_map([("llb.customname".to_owned(), "x".to_owned())]),
        ..pb::OpMetadata::default()
    };
    definition.metadata = pb::map::from_map([(last, metadata)]);
    definition
}

/// A build that its client drives, which waits for the client's calls.
pub struct Driven {
    pub id: String,
    channel: Channel,
    result: TaskGuard<Result<SolveResponse, Status>>,
}

impl Driven {
    /// Starts one whose result goes to an exporter, or to none.
    pub fn start(channel: &Channel, exporter: Option<&str>) -> Self {
        let exporter = exporter.map(|kind| Exporter { r#type: kind.to_owned(), ..Default::default() });
        Self::start_with(channel, exporter.into_iter().collect())
    }

    /// Starts one whose result goes to these exporters.
    pub fn start_with(channel: &Channel, exporters: Vec<Exporter>) -> Self {
        let id = build_id();
        let request = SolveRequest { r#ref: id.clone(), exporters, ..SolveRequest::default() };
        let solving = channel.clone();
        let result = spawn(async move { solve_request(&solving, request).await });
        Self { id, channel: channel.clone(), result }
    }

    /// The bridge of the daemon.
    pub fn bridge(&self) -> LlbBridgeClient<Channel> {
        LlbBridgeClient::new(self.channel.clone()).max_encoding_message_size(MAX_MESSAGE)
    }

    /// A call that belongs to this build.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("buildkit-controlapi-buildid", self.id.parse().expect("an id"));
        request
    }

    /// A ref of this build.
    pub async fn reference(&self) -> Result<String, Status> {
        self.solve(definition()).await
    }

    /// The id of the ref that a graph is given.
    pub async fn solve(&self, definition: pb::Definition) -> Result<String, Status> {
        let request = gw::SolveRequest {
            definition: Some(definition),
            allow_result_return: true,
            allow_result_array_ref: true,
            ..gw::SolveRequest::default()
        };
        let answer = self.bridge().solve(self.request(request)).await?.into_inner();
        match answer.result.and_then(|result| result.result) {
            Some(gw::result::Result::Ref(reference)) => Ok(reference.id),
            other => panic!("no ref: {other:?}"),
        }
    }

    /// Returns a result and gives what the build ends with.
    pub async fn r#return(self, result: gw::Result) -> Result<SolveResponse, Status> {
        let request = gw::ReturnRequest { result: Some(result), error: None };
        self.bridge().r#return(self.request(request)).await?;
        self.result.await.expect("no panic")
    }
}
