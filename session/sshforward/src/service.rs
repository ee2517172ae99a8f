use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_session_pb::sshforward::ssh_server::{Ssh, SshServer};
use buildkit_session_pb::sshforward::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use buildkit_util_appcontext as tasks;
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{CHUNK, DEFAULT_ID, KEY_SSH_ID};

/// A connection to an agent.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Any connection to an agent.
pub type BoxConnection = Box<dyn Connection>;

/// Agents that a client offers.
#[async_trait]
pub trait SshForwarder: Send + Sync + 'static {
    /// Whether there is an agent of this id.
    fn has(&self, id: &str) -> bool;

    /// A new connection to an agent. The error is a line for people.
    async fn dial(&self, id: &str) -> Result<BoxConnection, String>;
}

/// Serves agents to the daemon over a session.
pub struct SshService {
    forwarder: Arc<dyn SshForwarder>,
}

impl SshService {
    /// Methods to announce with the session.
    pub const METHODS: &'static [&'static str] = &["CheckAgent", "ForwardAgent"];

    /// The gRPC service of some agents.
    pub fn server(forwarder: Arc<dyn SshForwarder>) -> SshServer<Self> {
        SshServer::new(Self { forwarder })
    }
}

fn unset(id: &str) -> Status {
    Status::not_found(format!("unset ssh forward key {id}"))
}

#[tonic::async_trait]
impl Ssh for SshService {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        let id = request.into_inner().id;
        let id = if id.is_empty() { DEFAULT_ID } else { &id };
        if self.forwarder.has(id) { Ok(Response::new(CheckAgentResponse {})) } else { Err(unset(id)) }
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request
            .metadata()
            .get(KEY_SSH_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| !id.is_empty())
            .unwrap_or(DEFAULT_ID)
            .to_owned();
        if !self.forwarder.has(&id) {
            return Err(unset(&id));
        }
        let connection = self.forwarder.dial(&id).await.map_err(Status::unavailable)?;
        let (mut from_agent, mut to_agent) = tokio::io::split(connection);
        let mut incoming = request.into_inner();
        let upstream = tasks::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                if to_agent.write_all(&message.data).await.is_err() {
                    return;
                }
            }
            let _ = to_agent.shutdown().await;
        });
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let downstream = tasks::spawn(async move {
            let mut buffer = vec![0; CHUNK];
            loop {
                let message = match from_agent.read(&mut buffer).await {
                    Ok(0) => return,
                    Ok(len) => Ok(BytesMessage { data: buffer[..len].to_vec().into() }),
                    Err(error) => Err(Status::unavailable(error.to_string())),
                };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        // The tasks live as long as the stream that the daemon reads.
        let stream = ReceiverStream::new(receiver).map(move |message| {
            let _tasks = (&upstream, &downstream);
            message
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
