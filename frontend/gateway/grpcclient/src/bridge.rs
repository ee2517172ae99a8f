//! The service of the other side, with what every call carries.

use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_pb::llb_bridge_client::LlbBridgeClient;
use buildkit_session::MAX_MESSAGE_SIZE;
use buildkit_util_grpcerrors::RemoteError;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Metadata key of the id of the build that a call belongs to.
pub const BUILD_ID_KEY: &str = "buildkit-controlapi-buildid";

pub(crate) type Bridge = LlbBridgeClient<InterceptedService<Channel, BuildId>>;

/// Says of each call which build it belongs to, if the other side cannot know.
#[derive(Clone)]
pub(crate) struct BuildId(Option<MetadataValue<Ascii>>);

impl BuildId {
    pub(crate) fn new(id: &str) -> Result<Self, RemoteError> {
        if id.is_empty() {
            return Ok(Self(None));
        }
        let invalid = |_| RemoteError::new(Kind::InvalidArgument, format!("Build id `{id}` is not ASCII"));
        Ok(Self(Some(id.parse().map_err(invalid)?)))
    }
}

impl Interceptor for BuildId {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(id) = &self.0 {
            request.metadata_mut().insert(BUILD_ID_KEY, id.clone());
        }
        Ok(request)
    }
}

pub(crate) fn bridge(channel: Channel, id: BuildId) -> Bridge {
    LlbBridgeClient::with_interceptor(channel, id)
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE)
}

/// What the other side answers.
pub(crate) fn answer<T>(answer: Result<tonic::Response<T>, Status>) -> Result<T, RemoteError> {
    answer.map(tonic::Response::into_inner).map_err(|status| RemoteError::from_status(&status))
}
