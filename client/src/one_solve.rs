use std::sync::Arc;

use async_trait::async_trait;
use buildkit_frontend_gateway_client::{
    BuildFunction, CacheImport, GatewayClient, GatewayResult, RemoteError, SolveRequest,
};

use crate::BuildRequest;

/// Option that asks a frontend a question in place of a build.
const REQUEST_ID: &str = "requestid";
/// Option that says what a frontend has to know.
const FRONTEND_CAPS: &str = "frontend.caps";
const SUBREQUESTS: &str = "moby.buildkit.frontend.subrequests";

/// The frontend of those who need none: solves what the request says.
pub(crate) struct OneSolve {
    request: SolveRequest,
}

impl OneSolve {
    pub(crate) fn of(request: &BuildRequest) -> Self {
        let mut frontend_opt = request.frontend.options.clone();
        if frontend_opt.contains_key(REQUEST_ID) {
            // A frontend that does not know of questions would build.
            frontend_opt.entry(FRONTEND_CAPS.to_owned()).or_insert_with(|| SUBREQUESTS.to_owned());
        }
        let imports = request.cache_imports.iter();
        let request = SolveRequest {
            definition: request.definition.clone(),
            frontend: request.frontend.name.clone(),
            frontend_opt,
            frontend_inputs: request.frontend_inputs.clone(),
            cache_imports: imports
                .map(|option| CacheImport { kind: option.kind.clone(), attrs: option.attrs.clone() })
                .collect(),
            ..SolveRequest::default()
        };
        Self { request }
    }
}

#[async_trait]
impl BuildFunction for OneSolve {
    async fn build(&self, client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError> {
        client.solve(self.request.clone()).await
    }
}
