use async_trait::async_trait;
use buildkit_errdefs::{BoxError, Classify, Kind};
use buildkit_session::{MAX_MESSAGE_SIZE, SessionCaller};
use buildkit_session_pb::secrets::GetSecretRequest;
use buildkit_session_pb::secrets::secrets_client::SecretsClient;

/// Largest secret in bytes.
pub const MAX_SECRET_SIZE: usize = 500 * 1024;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has a secret of this id.
    #[error("secret {0}: not found")]
    NotFound(String),
    /// The secret is too large; sizes in bytes.
    #[error("invalid secret size {size}")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// The secret could not be read.
    #[error("Failed to read secret `{id}`")]
    Read {
        /// Its id.
        id: String,
        /// Why.
        #[source]
        source: BoxError,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::TooLarge { .. } => Kind::InvalidArgument,
            Self::Read { source, .. } => source
                .downcast_ref::<tonic::Status>()
                .map_or(Kind::Unknown, |status| Kind::from_code(status.code() as i32)),
        }
    }
}

/// Looks secrets up by id.
#[async_trait]
pub trait SecretStore: Send + Sync + 'static {
    /// The bytes of a secret.
    async fn get_secret(&self, id: &str) -> Result<Vec<u8>, Error>;
}

/// Asks a client for a secret.
///
/// # Errors
/// [`Error::NotFound`] also when the client offers no secrets at all.
pub async fn get_secret(caller: &SessionCaller, id: &str) -> Result<Vec<u8>, Error> {
    let mut client = SecretsClient::new(caller.channel())
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE);
    let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
    match client.get_secret(request).await {
        Ok(response) => Ok(response.into_inner().data.to_vec()),
        Err(status) => match status.code() {
            tonic::Code::NotFound | tonic::Code::Unimplemented => Err(Error::NotFound(id.to_owned())),
            _ => Err(Error::Read { id: id.to_owned(), source: Box::new(status) }),
        },
    }
}
