use std::future::Future;
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_session::{MAX_MESSAGE_SIZE, SessionCaller, SessionGroup, SessionManager};
use buildkit_session_pb::content as pb;
use buildkit_session_pb::content::content_client::ContentClient;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{BlobInfo, BlobStream, Error, Provider};
use buildkit_util_ocispec::Descriptor;
use futures::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::STORE_ID_HEADER;
use crate::ingests::signed;
use crate::writer::Writer;

/// A content store of a client, used over its session. Cheap to clone.
///
/// It reads as a [`Provider`], unverified: who keeps a blob checks it. Nothing here waits for a client whose session
/// has ended.
#[derive(Clone)]
pub struct SessionContent {
    sessions: Sessions,
    store: String,
}

#[derive(Clone)]
enum Sessions {
    One(SessionCaller),
    Group(SessionManager, SessionGroup),
}

/// What a client said, or that it is gone.
#[derive(Debug, thiserror::Error)]
#[error("Failed to {action} in store `{store}` of the client: {message}")]
struct ClientError {
    action: String,
    store: String,
    kind: Kind,
    message: String,
}

impl Classify for ClientError {
    fn kind(&self) -> Kind {
        self.kind
    }
}

/// The error of one attempt: the library's, which knows no sessions.
struct Attempt(Error);

impl From<buildkit_session::Error> for Attempt {
    fn from(error: buildkit_session::Error) -> Self {
        Self(Error::provider(error))
    }
}

impl SessionContent {
    /// A store of one client.
    pub fn of_caller(caller: SessionCaller, store: impl Into<String>) -> Self {
        Self { sessions: Sessions::One(caller), store: store.into() }
    }

    /// The store of this name of whichever session of a group has it; each call looks for the sessions anew.
    pub fn of_group(manager: SessionManager, group: SessionGroup, store: impl Into<String>) -> Self {
        Self { sessions: Sessions::Group(manager, group), store: store.into() }
    }

    /// Name of the store.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// What the client says of a blob.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the store has it not, and [`Error::Provider`] for all else.
    pub async fn info(&self, digest: &Digest) -> Result<BlobInfo, Error> {
        self.with_client(|caller| async move {
            let request = self.request(pb::InfoRequest { digest: digest.to_string() });
            let answer = client(&caller).info(request).await;
            let answer = answer.map_err(|status| self.error(digest, "look for", &status))?;
            let info = answer.into_inner().info.unwrap_or_default();
            let size = u64::try_from(info.size).ok().filter(|_| info.digest == digest.as_str());
            let size = size.ok_or_else(|| {
                self.error(digest, "look for", &Status::internal("the answer is about something else"))
            })?;
            let stored_at = info.updated_at.and_then(|time| SystemTime::try_from(time).ok());
            Ok(BlobInfo {
                digest: digest.clone(),
                size,
                stored_at: stored_at.unwrap_or(SystemTime::UNIX_EPOCH),
            })
        })
        .await
    }

    /// Brings a blob into the store. That it is there already is no error; then nothing is read.
    ///
    /// # Errors
    /// Those of `provider`, [`Error::Mismatch`] or [`Error::Provider`] if what it gives is not the blob, and
    /// [`Error::Provider`] when the client refuses or is gone.
    pub async fn copy(&self, provider: &dyn Provider, blob: &Descriptor) -> Result<(), Error> {
        loop {
            let Some(writer) = self.open(blob).await? else { return Ok(()) };
            let is_resumed = writer.offset() > 0;
            let written = match provider.read(blob, writer.offset()).await {
                Ok(stream) => writer.run(stream).await,
                Err(error) => {
                    writer.abort().await;
                    Err(error)
                }
            };
            match written {
                // The beginning was of something else. It is forgotten now.
                Err(error) if is_resumed && error.kind() == Kind::FailedPrecondition => {
                    tracing::debug!(%error, blob = %blob.digest, "writing from the beginning");
                }
                done => return done,
            }
        }
    }

    /// Brings a blob into the store whose bytes come as a stream. That it is there already is no error; then the
    /// stream is dropped.
    ///
    /// # Errors
    /// As of [`copy`](Self::copy), where the provider is the stream.
    pub async fn ingest(&self, blob: &Descriptor, stream: BlobStream) -> Result<(), Error> {
        let Some(mut writer) = self.open(blob).await? else { return Ok(()) };
        writer.restart();
        writer.run(stream).await
    }

    /// A writer of a blob; nothing if it is there.
    async fn open(&self, blob: &Descriptor) -> Result<Option<Writer>, Error> {
        self.with_client(|caller| Writer::open(self.clone(), caller, blob)).await
    }

    /// Tries the sessions in turn.
    async fn with_client<T, F, Fut>(&self, mut work: F) -> Result<T, Error>
    where
        F: FnMut(SessionCaller) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        match &self.sessions {
            Sessions::One(caller) => work(caller.clone()).await,
            Sessions::Group(manager, group) => {
                let attempt = |caller| {
                    let working = work(caller);
                    async move { working.await.map_err(Attempt) }
                };
                manager.any(group, attempt).await.map_err(|Attempt(error)| error)
            }
        }
    }

    /// A message to the store.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // A name that is no text of a header is not known to the client either.
        if let Ok(store) = http::HeaderValue::from_bytes(self.store.as_bytes()) {
            let mut headers = std::mem::take(request.metadata_mut()).into_headers();
            headers.insert(STORE_ID_HEADER, store);
            *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        }
        request
    }

    pub(crate) fn error(&self, digest: &Digest, action: &str, status: &Status) -> Error {
        // That there is no such store must not look as if there were no such blob. Go has more words before it.
        if status.code() == Code::NotFound && !status.message().contains("unknown store ") {
            return Error::NotFound(digest.clone());
        }
        Error::provider(ClientError {
            action: format!("{action} blob `{digest}`"),
            store: self.store.clone(),
            kind: match status.code() {
                // Not an answer, but the connection.
                Code::Unknown if std::error::Error::source(status).is_some() => Kind::Unavailable,
                code => Kind::from_code(code as i32),
            },
            message: status.message().to_owned(),
        })
    }
}

pub(crate) fn client(caller: &SessionCaller) -> ContentClient<Channel> {
    ContentClient::new(caller.channel())
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE)
}

#[async_trait]
impl Provider for SessionContent {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        let Some(left) = blob.size.checked_sub(offset).filter(|left| *left > 0) else {
            // On the wire, nothing stands for everything.
            let found = self.info(&blob.digest).await?.size;
            let text = format!("byte {offset} of a blob of {found} bytes was asked for");
            return if offset <= found && offset <= blob.size {
                Ok(Box::pin(futures::stream::empty()))
            } else {
                Err(self.error(&blob.digest, "read", &Status::out_of_range(text)))
            };
        };
        let messages = self
            .with_client(|caller| async move {
                let request = self.request(pb::ReadContentRequest {
                    digest: blob.digest.to_string(),
                    offset: signed(offset),
                    size: signed(left),
                });
                let answer = client(&caller).read(request).await;
                Ok(answer.map_err(|status| self.error(&blob.digest, "read", &status))?.into_inner())
            })
            .await?;
        let (store, digest) = (self.clone(), blob.digest.clone());
        let stream = futures::stream::try_unfold((messages, left), move |(mut messages, left)| {
            let (store, digest) = (store.clone(), digest.clone());
            async move {
                let failed = |status: Status| store.error(&digest, "read", &status);
                let Some(message) = messages.message().await.map_err(failed)? else {
                    return match left {
                        0 => Ok(None),
                        _ => Err(failed(Status::data_loss(format!("the last {left} bytes did not come")))),
                    };
                };
                let left = left.checked_sub(message.data.len() as u64);
                let left = left.ok_or_else(|| failed(Status::data_loss("more came than was asked for")))?;
                Ok(Some((message.data, (messages, left))))
            }
        });
        Ok(stream.boxed())
    }
}
