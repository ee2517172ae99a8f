use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_frontend::{BridgeError, Frontend, FrontendResult, LlbBridge, SolveRequest};
use buildkit_frontend_gateway_client::BuildFunction;
use buildkit_util_appcontext as tasks;
use buildkit_util_grpcerrors::RemoteError;

use crate::BridgeClient;

/// A frontend of the daemon: a function that is written against the interface for frontends anywhere.
pub struct ForwardedFrontend {
    name: &'static str,
    function: Arc<dyn BuildFunction>,
}

impl ForwardedFrontend {
    /// A frontend with the name that requests call it by.
    pub fn new(name: &'static str, function: Arc<dyn BuildFunction>) -> Self {
        Self { name, function }
    }
}

#[async_trait]
impl Frontend for ForwardedFrontend {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn solve(
        &self,
        bridge: Arc<dyn LlbBridge>,
        request: SolveRequest,
    ) -> Result<FrontendResult, BridgeError> {
        let client = Arc::new(BridgeClient::new(bridge, request.frontend_opt, request.frontend_inputs));
        let building = {
            let (function, client) = (self.function.clone(), client.clone());
            // In a task of its own a panic ends the build, and nothing else.
            tasks::spawn(async move { function.build(client).await })
        };
        let broke = |error| {
            let text = format!("Frontend `{}` ended without a result: {error}", self.name);
            Err(RemoteError::new(Kind::Internal, text))
        };
        match building.await.unwrap_or_else(broke) {
            Ok(result) => Ok(client.to_frontend(&result)?),
            Err(error) => Err(client.to_bridge_error(error)),
        }
    }
}
