use std::sync::Arc;

use buildkit_errdefs::Classify as _;
use buildkit_session_pb::secrets::secrets_server::{Secrets, SecretsServer};
use buildkit_session_pb::secrets::{GetSecretRequest, GetSecretResponse};
use tonic::{Code, Request, Response, Status};

use crate::{MAX_SECRET_SIZE, SecretStore};

/// Serves a store to the daemon over a session.
pub struct SecretsService {
    store: Arc<dyn SecretStore>,
}

impl SecretsService {
    /// Methods to announce with the session.
    pub const METHODS: &'static [&'static str] = &["GetSecret"];

    /// The gRPC service of a store.
    pub fn server(store: Arc<dyn SecretStore>) -> SecretsServer<Self> {
        SecretsServer::new(Self { store })
    }
}

#[tonic::async_trait]
impl Secrets for SecretsService {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let data = self
            .store
            .get_secret(&id)
            .await
            .map_err(|error| Status::new(Code::from_i32(error.kind().code()), error.to_string()))?;
        if data.len() > MAX_SECRET_SIZE {
            return Err(Status::invalid_argument(format!("invalid secret size {}", data.len())));
        }
        Ok(Response::new(GetSecretResponse { data: data.into() }))
    }
}
