use buildkit_frontend_dockerfile_dockerfile2llb::{self as convert, ConvertOptions};
use buildkit_frontend_dockerui::{Subrequest, answered, describe_requests};
use buildkit_frontend_gateway_client::{GatewayResult, RemoteError};

/// Answers what is asked in place of a build.
pub(crate) async fn answer(
    request: Subrequest,
    dockerfile: &[u8],
    options: &ConvertOptions,
) -> Result<GatewayResult, RemoteError> {
    let answer = match request {
        Subrequest::Describe => Ok(describe_requests()),
        Subrequest::Outline => convert::outline(dockerfile, options).await.map(|outline| outline.to_answer()),
        Subrequest::Targets => convert::targets(dockerfile).map(|targets| targets.to_answer()),
        Subrequest::Lint => convert::lint(dockerfile, options).await.map(|results| results.to_answer()),
        Subrequest::ConvertLlb => convert::graph(dockerfile, options).await.map(|graph| graph.to_answer()),
    };
    answer.map(answered).map_err(|error| error.remote)
}
