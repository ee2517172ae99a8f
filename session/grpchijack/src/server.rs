use std::pin::Pin;

use buildkit_api_services_control::BytesMessage;
use buildkit_session::{Headers, SessionManager};
use buildkit_util_appcontext as tasks;
use buildkit_util_grpcerrors::RemoteError;
use futures::{Stream, StreamExt as _};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::KeyAndValueRef;
use tonic::{Request, Status, Streaming};

use crate::tunnel::{Outgoing, QUEUE, Tunnel};

/// What the daemon sends back on `Control.Session`.
pub type SessionStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

/// Serves a `Control.Session` call: the session lives as long as the returned stream.
pub fn serve(manager: &SessionManager, request: Request<Streaming<BytesMessage>>) -> SessionStream {
    let mut headers = Headers::default();
    for entry in request.metadata().iter() {
        if let KeyAndValueRef::Ascii(name, value) = entry
            && let Ok(value) = value.to_str()
        {
            headers.append(name.as_str(), value.to_owned());
        }
    }
    let (sender, receiver) = tokio::sync::mpsc::channel::<Outgoing>(QUEUE);
    let errors = sender.clone();
    let tunnel = Tunnel::new(request.into_inner(), sender);
    let manager = manager.clone();
    let session = tasks::spawn(async move {
        if let Err(error) = manager.serve(tunnel, headers).await {
            tracing::debug!(%error, "session failed");
            let status = RemoteError::from_error(&error).into();
            let _ = errors.send(Outgoing(Err(status))).await;
        }
    });
    // When the client hangs up, the stream is dropped, and the session with it.
    Box::pin(ReceiverStream::new(receiver).map(move |Outgoing(message)| {
        let _session = &session;
        message
    }))
}
