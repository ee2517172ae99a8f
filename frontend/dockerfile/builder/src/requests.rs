use buildkit_frontend_dockerfile_dockerfile2llb::{self as convert, ConvertOptions};
use buildkit_frontend_dockerui::{EntryPoint, Subrequest, answered, describe_requests};
use buildkit_frontend_gateway_client::{GatewayResult, RemoteError};

use crate::warnings::Warnings;

/// Answers what is asked in place of a build. What the linter finds on the way, the client is told as in a build,
/// unless that is the answer.
pub(crate) async fn answer(
    request: Subrequest,
    file: &EntryPoint,
    options: ConvertOptions,
) -> Result<GatewayResult, RemoteError> {
    let dockerfile = file.data();
    let warnings = Warnings::default();
    let options = &ConvertOptions { warn: Some(warnings.sink()), ..options };
    let answer = match request {
        Subrequest::Describe => Ok(describe_requests()),
        Subrequest::Outline => convert::outline(dockerfile, options).await.map(|outline| outline.to_answer()),
        Subrequest::Targets => convert::targets(dockerfile).map(|targets| targets.to_answer()),
        Subrequest::Lint => convert::lint(dockerfile, options).await.map(|results| results.to_answer()),
        Subrequest::ConvertLlb => convert::graph(dockerfile, options).await.map(|graph| graph.to_answer()),
    };
    warnings.tell(file).await;
    answer.map(answered).map_err(|error| error.remote)
}
