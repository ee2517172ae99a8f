//! The frontend `dockerfile.v0`: builds Dockerfiles with whatever bridge it is given.
//!
//! It reads what its user wants (`frontend/dockerui`), has the Dockerfile converted for each platform
//! (`frontend/dockerfile/dockerfile2llb`), and solves the graphs. A file that names another frontend is built by that
//! one. Behaviour follows upstream `frontend/dockerfile/builder`.
#![forbid(unsafe_code)]

mod build;
mod caps;
mod dates;
mod explain;
mod forward;
mod graph;
mod images;
mod missing;
mod requests;
mod source;
mod surroundings;
mod warnings;

use std::sync::Arc;

use async_trait::async_trait;
use buildkit_frontend_gateway_client::{BuildFunction, GatewayClient, GatewayResult, RemoteError};
use buildkit_solver_pb::Definition;

/// Name of the frontend in requests.
pub const NAME: &str = "dockerfile.v0";

/// Builds Dockerfiles.
#[derive(Clone, Copy, Debug, Default)]
pub struct DockerfileFrontend;

#[async_trait]
impl BuildFunction for DockerfileFrontend {
    async fn build(&self, client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError> {
        build::build(client).await
    }

    async fn explain(
        &self,
        client: Arc<dyn GatewayClient>,
        definition: Option<Arc<Definition>>,
        error: RemoteError,
    ) -> RemoteError {
        explain::explain(client, definition, error).await
    }
}
