use std::sync::Arc;

use async_trait::async_trait;
use buildkit_frontend::{BridgeError, Frontend, FrontendResult, LlbBridge, SolveRequest};
use buildkit_frontend_gateway_client::BuildFunction;

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
        let result = self.function.build(client.clone()).await;
        match result {
            Ok(result) => Ok(client.to_frontend(&result)?),
            Err(error) => Err(client.to_bridge_error(error)),
        }
    }
}
