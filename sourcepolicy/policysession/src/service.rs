use std::sync::Arc;

use buildkit_session::MAX_MESSAGE_SIZE;
use buildkit_session_pb::policysession::check_policy_response::Result as Answer;
use buildkit_session_pb::policysession::policy_verifier_server::{
    PolicyVerifier as Api, PolicyVerifierServer,
};
use buildkit_session_pb::policysession::{CheckPolicyRequest, CheckPolicyResponse};
use tonic::{Request, Response, Status};

use crate::{PolicyAnswer, PolicyVerifier};

/// Serves decisions to the daemon over a session.
pub struct PolicyVerifierService {
    verifier: Arc<dyn PolicyVerifier>,
}

impl PolicyVerifierService {
    /// Methods to announce with the session.
    pub const METHODS: &'static [&'static str] = &["CheckPolicy"];

    /// The gRPC service of a verifier.
    pub fn server(verifier: Arc<dyn PolicyVerifier>) -> PolicyVerifierServer<Self> {
        PolicyVerifierServer::new(Self { verifier })
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
    }
}

#[tonic::async_trait]
impl Api for PolicyVerifierService {
    async fn check_policy(
        &self,
        request: Request<CheckPolicyRequest>,
    ) -> Result<Response<CheckPolicyResponse>, Status> {
        let answer = match self.verifier.check(request.into_inner()).await? {
            PolicyAnswer::Decision(decision) => Answer::Decision(decision),
            PolicyAnswer::Ask(request) => Answer::Request(*request),
        };
        Ok(Response::new(CheckPolicyResponse { result: Some(answer) }))
    }
}
