use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_pb::ResolveSourceMetaRequest;
use buildkit_session::{MAX_MESSAGE_SIZE, SessionCaller};
use buildkit_session_pb::policysession::check_policy_response::Result as Answer;
use buildkit_session_pb::policysession::policy_verifier_client::PolicyVerifierClient;
use buildkit_session_pb::policysession::{CheckPolicyRequest, DecisionResponse};
use buildkit_util_grpcerrors::RemoteError;

/// What is said about a source.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyAnswer {
    /// Whether it may be used, or what takes its place.
    Decision(DecisionResponse),
    /// What has to be known of it first. Source and attributes have to be those that were asked about.
    Ask(Box<ResolveSourceMetaRequest>),
}

/// Decides about the sources of builds.
///
/// Calls for several sources come side by side. What takes the place of a source is asked about in turn, and after
/// what was to be known is found out, the same source again with it; in all at most ten times. An error denies the
/// source.
#[async_trait]
pub trait PolicyVerifier: Send + Sync + 'static {
    /// Decides about one source.
    async fn check(&self, request: CheckPolicyRequest) -> Result<PolicyAnswer, RemoteError>;
}

/// Asks a client about a source.
///
/// # Errors
/// What the client fails with, or that it does not decide.
pub async fn check(caller: &SessionCaller, request: CheckPolicyRequest) -> Result<PolicyAnswer, RemoteError> {
    let mut client = PolicyVerifierClient::new(caller.channel())
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE);
    let response = client.check_policy(request).await.map_err(|status| RemoteError::from_status(&status))?;
    match response.into_inner().result {
        Some(Answer::Decision(decision)) => Ok(PolicyAnswer::Decision(decision)),
        Some(Answer::Request(request)) => Ok(PolicyAnswer::Ask(Box::new(request))),
        None => Err(RemoteError::new(Kind::Unknown, "no decision in policy response")),
    }
}
