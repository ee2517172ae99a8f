//! Dockerfiles that are to be built by another frontend.

use std::collections::BTreeMap;

use buildkit_frontend_gateway_client::{GatewayClient, GatewayResult, RemoteError, SolveRequest};
use buildkit_frontend_gateway_pb::caps;

const GATEWAY: &str = "gateway.v0";

/// Builds with the frontend that is the image `source`. `command_line` is all that names it.
pub(crate) async fn forward(
    client: &dyn GatewayClient,
    source: &str,
    command_line: &str,
) -> Result<GatewayResult, RemoteError> {
    let options = client.build_opts();
    let mut frontend_opt = options.opts.clone();
    frontend_opt.insert("cmdline".to_owned(), command_line.to_owned());
    frontend_opt.insert("source".to_owned(), source.to_owned());
    let frontend_inputs = if options.caps.supports(caps::FRONTEND_INPUTS).is_ok() {
        client.inputs().await.map_err(|mut error| {
            error.message = format!("failed to get frontend inputs: {}", error.message);
            error
        })?
    } else {
        BTreeMap::new()
    };
    client
        .solve(SolveRequest {
            frontend: GATEWAY.to_owned(),
            frontend_opt,
            frontend_inputs,
            ..SolveRequest::default()
        })
        .await
}
