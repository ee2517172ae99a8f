use std::io;
use std::path::{Path, PathBuf};

use buildkit_errdefs::{Classify, Kind};
use buildkit_session::SessionCaller;
use buildkit_session_pb::sshforward::ssh_client::SshClient;
use buildkit_session_pb::sshforward::{BytesMessage, CheckAgentRequest};
use buildkit_util_appcontext::{self as tasks, TaskGuard};
use futures::StreamExt as _;
use rustix::fs::{Gid, Mode, Uid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::{CHUNK, DEFAULT_ID, KEY_SSH_ID};

/// Why an agent is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client forwards no agents at all.
    #[error("Client forwards no SSH agents")]
    Unsupported,
    /// The client offers no agent of this id. The text is the client's.
    #[error("{0}")]
    NotFound(String),
    /// The client could not be asked.
    #[error("Failed to ask the client for SSH agent `{id}`")]
    Client {
        /// Id of the agent.
        id: String,
        /// Why.
        #[source]
        source: Box<tonic::Status>,
    },
    /// The socket could not be made.
    #[error("Failed to make an SSH agent socket")]
    Socket(#[source] io::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsupported | Self::NotFound(_) => Kind::NotFound,
            Self::Client { source, .. } => Kind::from_code(source.code() as i32),
            Self::Socket(source) => Kind::of_io(source),
        }
    }
}

/// Asks a client whether it has an agent; an empty id is [`DEFAULT_ID`].
///
/// # Errors
/// [`Error::NotFound`] when it has none, [`Error::Unsupported`] when it forwards no agents at all.
pub async fn check_agent(caller: &SessionCaller, id: &str) -> Result<(), Error> {
    let id = if id.is_empty() { DEFAULT_ID } else { id };
    let mut client = SshClient::new(caller.channel());
    match client.check_agent(CheckAgentRequest { id: id.to_owned() }).await {
        Ok(_) => Ok(()),
        Err(status) => match status.code() {
            tonic::Code::Unimplemented => Err(Error::Unsupported),
            tonic::Code::NotFound => Err(Error::NotFound(status.message().to_owned())),
            // Go clients answer with an unclassified error for an id that they do not have. A broken
            // connection is not classified either, but has a cause on this side.
            tonic::Code::Unknown if std::error::Error::source(&status).is_none() => {
                Err(Error::NotFound(status.message().to_owned()))
            }
            _ => Err(Error::Client { id: id.to_owned(), source: Box::new(status) }),
        },
    }
}

/// Owner and mode of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// A unix socket on which the agent of a client answers, until it is dropped.
pub struct AgentSocket {
    path: PathBuf,
    _directory: tempfile::TempDir,
    _acceptor: TaskGuard<()>,
}

impl AgentSocket {
    /// Makes the socket in a new private directory below `parent`.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn listen(
        caller: SessionCaller,
        id: &str,
        parent: &Path,
        options: SocketOptions,
    ) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("ssh-").tempdir_in(parent).map_err(Error::Socket)?;
        let refused = |error: rustix::io::Errno| Error::Socket(error.into());
        // Others must be able to reach the socket, but not to list the directory.
        rustix::fs::chmod(directory.path(), Mode::from_raw_mode(0o711)).map_err(refused)?;
        let path = directory.path().join("ssh_auth_sock");
        let listener = UnixListener::bind(&path).map_err(Error::Socket)?;
        rustix::fs::chown(&path, Some(Uid::from_raw(options.uid)), Some(Gid::from_raw(options.gid)))
            .map_err(refused)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(options.mode)).map_err(refused)?;
        let id = if id.is_empty() { DEFAULT_ID } else { id }.to_owned();
        let acceptor = tasks::spawn(accept(listener, caller, id));
        Ok(Self { path, _directory: directory, _acceptor: acceptor })
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Serves connections until dropped, and all of them end with it.
async fn accept(listener: UnixListener, caller: SessionCaller, id: String) {
    let mut connections = futures::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => connections.push(forward(connection, caller.clone(), id.clone())),
                Err(error) => {
                    tracing::debug!(%error, "SSH agent socket stopped accepting");
                    return;
                }
            },
            Some(result) = connections.next(), if !connections.is_empty() => {
                if let Err(error) = result {
                    // Of this connection only; the program in the container sees it close.
                    tracing::debug!(%error, id, "SSH agent connection ended");
                }
            }
        }
    }
}

async fn forward(connection: UnixStream, caller: SessionCaller, id: String) -> Result<(), tonic::Status> {
    let (mut from_program, mut to_program) = connection.into_split();
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    let mut request = Request::new(ReceiverStream::new(receiver));
    if let Ok(value) = id.parse() {
        request.metadata_mut().insert(KEY_SSH_ID, value);
    }
    let send = async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(len @ 1..) = from_program.read(&mut buffer).await {
            let message = BytesMessage { data: buffer[..len].to_vec().into() };
            if sender.send(message).await.is_err() {
                break;
            }
        }
    };
    let receive = async move {
        let mut client = SshClient::new(caller.channel());
        let mut stream = client.forward_agent(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            if to_program.write_all(&message.data).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    // The agent's side decides when a connection is over; the program may close its side earlier.
    tokio::pin!(send, receive);
    tokio::select! {
        result = &mut receive => result,
        () = &mut send => receive.await,
    }
}
