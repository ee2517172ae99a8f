use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buildkit_api_services_control::BytesMessage;
use bytes::{Buf as _, Bytes, BytesMut};
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
    /// Written and not sent yet.
    written: BytesMut,
    outgoing: PollSender<T>,
}

impl<T: From<BytesMessage> + Send + 'static> Tunnel<T> {
    pub(crate) fn new(incoming: Streaming<BytesMessage>, outgoing: tokio::sync::mpsc::Sender<T>) -> Self {
        Self { incoming, rest: Bytes::new(), written: BytesMut::new(), outgoing: PollSender::new(outgoing) }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.written.is_empty() {
            let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            ready!(self.outgoing.poll_reserve(cx)).map_err(closed)?;
            let message = BytesMessage { data: self.written.split().freeze() };
            self.outgoing.send_item(message.into()).map_err(closed)?;
        }
        Poll::Ready(Ok(()))
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
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
    /// Pieces are sent when they are flushed or large enough. One message for what belongs together is
    /// cheaper, and Go clients that close a session which has just begun misread further messages
    /// that arrive meanwhile.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.written.len() >= CHUNK {
            ready!(self.poll_send(cx))?;
        }
        let len = buf.len().min(CHUNK - self.written.len());
        self.written.extend_from_slice(&buf[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = ready!(self.poll_send(cx));
        self.outgoing.close();
        Poll::Ready(sent)
    }
}
