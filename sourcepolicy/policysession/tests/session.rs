//! Decisions between the two ends of a session.

use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_pb::{ResolveSourceMetaRequest, ResolveSourceMetaResponse};
use buildkit_session_pb::policysession::{CheckPolicyRequest, DecisionResponse};
use buildkit_session_testutil::SessionPair;
use buildkit_solver_pb::SourceOp;
use buildkit_sourcepolicy_pb::PolicyAction;
use buildkit_sourcepolicy_policysession::{PolicyAnswer, PolicyVerifier, PolicyVerifierService, check};
use buildkit_util_grpcerrors::RemoteError;

/// Does what the identifier of the source says.
struct Obeys;

#[async_trait]
impl PolicyVerifier for Obeys {
    async fn check(&self, request: CheckPolicyRequest) -> Result<PolicyAnswer, RemoteError> {
        let source = request.source.and_then(|source| source.source).unwrap_or_default();
        let decision =
            |action: PolicyAction| DecisionResponse { action: action.into(), ..Default::default() };
        Ok(match source.identifier.as_str() {
            "allow" => PolicyAnswer::Decision(decision(PolicyAction::Allow)),
            "ask" => {
                let source = Some(source);
                PolicyAnswer::Ask(Box::new(ResolveSourceMetaRequest { source, ..Default::default() }))
            }
            other => return Err(RemoteError::new(Kind::NotFound, format!("{other} is not known"))),
        })
    }
}

fn about(identifier: &str) -> CheckPolicyRequest {
    let source = SourceOp { identifier: identifier.to_owned(), attrs: Vec::new() };
    let source = ResolveSourceMetaResponse { source: Some(source), ..Default::default() };
    CheckPolicyRequest { source: Some(source), ..Default::default() }
}

#[tokio::test]
async fn clients_decide() {
    let pair = SessionPair::open(|session| {
        session.allow(PolicyVerifierService::server(Arc::new(Obeys)), PolicyVerifierService::METHODS);
    })
    .await;
    let method = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";
    assert!(pair.caller().supports(method));
    let answer = check(pair.caller(), about("allow")).await.expect("an answer");
    assert!(matches!(answer, PolicyAnswer::Decision(it) if it.action() == PolicyAction::Allow));
    let answer = check(pair.caller(), about("ask")).await.expect("an answer");
    let PolicyAnswer::Ask(asked) = answer else { panic!("{answer:?}") };
    assert_eq!(asked.source.expect("the source").identifier, "ask");
    let error = check(pair.caller(), about("x")).await.expect_err("not known");
    assert_eq!((error.kind, error.message.as_str()), (Kind::NotFound, "x is not known"));
}

#[tokio::test]
async fn clients_without_decisions_deny() {
    let pair = SessionPair::open(|_| {}).await;
    let error = check(pair.caller(), about("allow")).await.expect_err("no service");
    assert_eq!(error.kind, Kind::Unimplemented);
}
