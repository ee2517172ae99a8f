use buildkit_api_services_control::BytesMessage;
use buildkit_api_services_control::control_client::ControlClient;
use buildkit_session::{MAX_MESSAGE_SIZE, SessionServer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::tunnel::{QUEUE, Tunnel};

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon refused or broke the stream.
    #[error("Failed to open a session with the daemon")]
    Open(#[source] Box<Status>),
    /// The connection inside the stream broke.
    #[error("Session broke")]
    Connection(#[source] hyper::Error),
}

/// Opens a session with a daemon and serves it until the daemon closes it or the future is dropped.
///
/// # Errors
/// When the daemon refuses it, or it breaks.
pub async fn open(channel: Channel, server: &SessionServer) -> Result<(), Error> {
    let mut client = ControlClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE);
    let (sender, receiver) = tokio::sync::mpsc::channel::<BytesMessage>(QUEUE);
    let mut request = Request::new(ReceiverStream::new(receiver));
    for (name, value) in server.headers().iter() {
        if let (Ok(name), Ok(value)) =
            (AsciiMetadataKey::from_bytes(name.as_bytes()), AsciiMetadataValue::try_from(value))
        {
            request.metadata_mut().append(name, value);
        }
    }
    let response = client.session(request).await.map_err(|status| Error::Open(Box::new(status)))?;
    let tunnel = Tunnel::new(response.into_inner(), sender);
    server.serve(tunnel).await.map_err(Error::Connection)
}
