use std::sync::Arc;

use buildkit_errdefs::Classify as _;
use buildkit_session_pb::auth::auth_server::{Auth, AuthServer};
use buildkit_session_pb::auth::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use tonic::{Code, Request, Response, Status};

use crate::authority::LENGTH;
use crate::{AuthorityKey, CredentialProvider, ProviderError, TokenRequest};

/// Serves a user's credentials to the daemon over a session.
pub struct AuthService {
    provider: Arc<dyn CredentialProvider>,
}

impl AuthService {
    /// Methods to announce with the session.
    pub const METHODS: &'static [&'static str] =
        &["Credentials", "FetchToken", "GetTokenAuthority", "VerifyTokenAuthority"];

    /// The gRPC service of a provider.
    pub fn server(provider: Arc<dyn CredentialProvider>) -> AuthServer<Self> {
        AuthServer::new(Self { provider })
    }

    async fn key(&self, host: &str, salt: &[u8]) -> Result<AuthorityKey, Status> {
        let seed = self.provider.token_seed(host).await.map_err(|error| status(&error))?;
        Ok(AuthorityKey::derive(salt, &seed))
    }
}

fn status(error: &ProviderError) -> Status {
    Status::new(Code::from_i32(error.kind().code()), error.to_string())
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let found = self.provider.credentials(&host).await.map_err(|error| status(&error))?;
        Ok(Response::new(CredentialsResponse { username: found.username, secret: found.secret }))
    }

    async fn fetch_token(
        &self,
        request: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        let FetchTokenRequest { client_id, host, realm, service, scopes } = request.into_inner();
        let request = TokenRequest { client_id, host, realm, service, scopes };
        let token = self.provider.fetch_token(&request).await.map_err(|error| status(&error))?;
        Ok(Response::new(FetchTokenResponse {
            token: token.token,
            expires_in: token.expires_in,
            issued_at: token.issued_at,
        }))
    }

    async fn get_token_authority(
        &self,
        request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        let request = request.into_inner();
        let key = self.key(&request.host, &request.salt).await?;
        let public_key = key.public().as_bytes().to_vec().into();
        Ok(Response::new(GetTokenAuthorityResponse { public_key }))
    }

    async fn verify_token_authority(
        &self,
        request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        let request = request.into_inner();
        // Random bytes are what daemons have signed; nothing longer is to be had signed.
        if request.payload.len() > LENGTH {
            let length = request.payload.len();
            return Err(Status::invalid_argument(format!("Payload to sign is {length} bytes, not {LENGTH}")));
        }
        let key = self.key(&request.host, &request.salt).await?;
        Ok(Response::new(VerifyTokenAuthorityResponse { signed: key.sign(&request.payload).into() }))
    }
}
