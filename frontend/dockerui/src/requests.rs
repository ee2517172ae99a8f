use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_client::{GatewayResult, RemoteError};
use buildkit_frontend_subrequests::{Answer, CONVERT_LLB, DESCRIBE, LINT, OUTLINE, TARGETS, describe};
use buildkit_solver_errdefs::subrequest;

use crate::DockerUi;

/// What a user wants in place of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subrequest {
    /// Which of these there are: [`describe_requests`].
    Describe,
    /// What a stage takes.
    Outline,
    /// Which stages there are.
    Targets,
    /// What the linter says.
    Lint,
    /// The graph.
    ConvertLlb,
}

impl DockerUi {
    /// What is wanted in place of a build, if something is.
    ///
    /// # Errors
    /// When it is not known here; with the detail that tells clients so.
    pub fn subrequest(&self) -> Result<Option<Subrequest>, RemoteError> {
        let Some(name) = self.option("requestid") else { return Ok(None) };
        let known = [
            (DESCRIBE, Subrequest::Describe),
            (OUTLINE, Subrequest::Outline),
            (TARGETS, Subrequest::Targets),
            (LINT, Subrequest::Lint),
            (CONVERT_LLB, Subrequest::ConvertLlb),
        ];
        match known.into_iter().find(|(definition, _)| definition.name == name) {
            Some((_, request)) => Ok(Some(request)),
            None => {
                Err(RemoteError::new(Kind::Unknown, format!("unsupported request {name}"))
                    .with(subrequest(name)))
            }
        }
    }
}

/// The answer to [`Subrequest::Describe`]. The linter and the graph are not in it: clients know of them by other
/// means.
pub fn describe_requests() -> Answer {
    describe(&[OUTLINE, TARGETS])
}

/// The result that an answer is.
pub fn answered(answer: Answer) -> GatewayResult {
    GatewayResult { metadata: answer, ..GatewayResult::default() }
}
