use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buildkit_api_services_control::BytesMessage;
use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::PollSender;
use tonic::Streaming;

/// Largest piece that is written at a time.
const CHUNK: usize = 64 << 10;

/// Pieces that wait to be sent before writers wait.
pub(crate) const QUEUE: usize = 16;

/// A message stream in each direction as one byte stream. `T` is what the sending side takes.
pub(crate) struct Tunnel<T: Send + 'static> {
    incoming: Streaming<BytesMessage>,
    rest: Bytes,
    outgoing: PollSender<T>,
}

impl<T: From<BytesMessage> + Send + 'static> Tunnel<T> {
    pub(crate) fn new(incoming: Streaming<BytesMessage>, outgoing: tokio::sync::mpsc::Sender<T>) -> Self {
        Self { incoming, rest: Bytes::new(), outgoing: PollSender::new(outgoing) }
    }
}

/// What a server's response stream takes.
pub(crate) struct Outgoing(pub(crate) Result<BytesMessage, tonic::Status>);

impl From<BytesMessage> for Outgoing {
    fn from(message: BytesMessage) -> Self {
        Self(Ok(message))
    }
}

impl<T: Send + 'static> AsyncRead for Tunnel<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.incoming.poll_next_unpin(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(message)) => self.rest = message.data,
                Some(Err(status)) => return Poll::Ready(Err(io::Error::other(status))),
            }
        }
        let len = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..len]);
        self.rest.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<T: From<BytesMessage> + Send + 'static> AsyncWrite for Tunnel<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outgoing.poll_reserve(cx)).map_err(closed)?;
        let len = buf.len().min(CHUNK);
        let message = BytesMessage { data: Bytes::copy_from_slice(&buf[..len]) };
        self.outgoing.send_item(message.into()).map_err(closed)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}
