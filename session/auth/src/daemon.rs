use std::future::Future;
use std::time::Duration;

use buildkit_session::SessionCaller;
use buildkit_session_pb::auth::auth_client::AuthClient;
use buildkit_session_pb::auth::{
    CredentialsRequest, FetchTokenRequest, GetTokenAuthorityRequest, VerifyTokenAuthorityRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::authority::random;
use crate::{Credentials, Error, PublicKey, Request, Salt, Token, TokenRequest};

/// How long a client may take; people may have to unlock their key ring.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn ask<R>(
    request: Request,
    call: impl Future<Output = Result<Response<R>, Status>>,
) -> Result<R, Error> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Err(_) => Err(Error::Timeout(request)),
        Ok(Err(source)) => Err(Error::Client { request, source: Box::new(source) }),
        Ok(Ok(response)) => Ok(response.into_inner()),
    }
}

fn client(caller: &SessionCaller) -> AuthClient<Channel> {
    AuthClient::new(caller.channel())
}

/// Whether a client answered with one of these codes.
fn has_code<R>(result: &Result<R, Error>, codes: &[Code]) -> bool {
    matches!(result, Err(Error::Client { source, .. }) if codes.contains(&source.code()))
}

/// Asks a client for its credentials at a registry; from clients that offer none they are empty.
///
/// # Errors
/// When the client fails to look, or to answer.
pub async fn credentials(caller: &SessionCaller, host: &str) -> Result<Credentials, Error> {
    let request = CredentialsRequest { host: host.to_owned() };
    let answer = ask(Request::Credentials, client(caller).credentials(request)).await;
    if has_code(&answer, &[Code::Unimplemented]) {
        return Ok(Credentials::default());
    }
    answer.map(|answer| Credentials { username: answer.username, secret: answer.secret })
}

/// Has a client fetch a token.
///
/// # Errors
/// When it cannot.
pub async fn fetch_token(caller: &SessionCaller, request: &TokenRequest) -> Result<Token, Error> {
    let TokenRequest { client_id, host, realm, service, scopes } = request.clone();
    let request = FetchTokenRequest { client_id, host, realm, service, scopes };
    let answer = ask(Request::Token, client(caller).fetch_token(request)).await?;
    Ok(Token { token: answer.token, expires_in: answer.expires_in, issued_at: answer.issued_at })
}

/// The key that stands for a client's user at a registry; none when the client fetches no tokens.
///
/// # Errors
/// When the client fails otherwise, or answers with what is no key.
pub async fn token_authority(
    caller: &SessionCaller,
    host: &str,
    salt: &Salt,
) -> Result<Option<PublicKey>, Error> {
    let request = GetTokenAuthorityRequest { host: host.to_owned(), salt: salt.bytes().to_vec().into() };
    let answer = ask(Request::Authority, client(caller).get_token_authority(request)).await;
    // A client that has vanished is unavailable too, but nobody is to take that for an answer.
    if has_code(&answer, &[Code::Unimplemented])
        || (has_code(&answer, &[Code::Unavailable]) && !caller.closed().is_cancelled())
    {
        return Ok(None);
    }
    PublicKey::new(&answer?.public_key).map(Some)
}

/// Whether a client could have fetched the tokens that belong to a key: it signs random bytes.
///
/// # Errors
/// When the client fails otherwise than by not offering this.
pub async fn verify_token_authority(
    caller: &SessionCaller,
    host: &str,
    salt: &Salt,
    key: &PublicKey,
) -> Result<bool, Error> {
    let payload = random();
    let request = VerifyTokenAuthorityRequest {
        host: host.to_owned(),
        payload: payload.to_vec().into(),
        salt: salt.bytes().to_vec().into(),
    };
    let answer = ask(Request::Proof, client(caller).verify_token_authority(request)).await;
    if has_code(&answer, &[Code::Unimplemented]) {
        return Ok(false);
    }
    Ok(key.verify(&answer?.signed, &payload))
}
