//! Lets only those requests reach an agent that change nothing.
//!
//! Each request gets one answer, in order.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buildkit_util_appcontext::{TaskGuard, spawn};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::keyring::Keyring;
use crate::wire::{FAILURE, REQUEST_IDENTITIES, SIGN_REQUEST, receive, send};

/// Requests that may be made.
const ALLOWED: [u8; 2] = [REQUEST_IDENTITIES, SIGN_REQUEST];
/// Bytes that may wait in each direction.
const BUFFER: usize = 64 * 1024;

/// One end of a connection to an agent.
pub(crate) struct Filtered {
    stream: DuplexStream,
    _task: TaskGuard<()>,
}

/// A connection to the agent on which requests that would change it fail.
pub(crate) fn read_only<T>(agent: T) -> Filtered
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (stream, client) = tokio::io::duplex(BUFFER);
    let task = spawn(async move {
        // Whatever ends the exchange closes both connections, which is all that there is to tell.
        let _ = exchange(client, agent).await;
    });
    Filtered { stream, _task: task }
}

/// A connection to an agent in this process.
pub(crate) fn connect(agent: Arc<Keyring>) -> Filtered {
    let (stream, client) = tokio::io::duplex(BUFFER);
    Filtered { stream, _task: agent.serve(client) }
}

async fn exchange<C, A>(mut client: C, mut agent: A) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let request = receive(&mut client).await?;
        if request.first().is_some_and(|kind| ALLOWED.contains(kind)) {
            send(&mut agent, &request).await?;
            let answer = receive(&mut agent).await?;
            send(&mut client, &answer).await?;
        } else {
            send(&mut client, FAILURE).await?;
        }
    }
}

impl AsyncRead for Filtered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Filtered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn only_reading_requests_reach_the_agent() {
        let (agent, mut behind) = tokio::io::duplex(BUFFER);
        let mut connection = read_only(agent);
        // Remove all identities, then list them, in pieces.
        connection.write_all(&[0, 0, 0, 1, 19, 0, 0]).await.expect("writes");
        let mut answer = [0; 5];
        connection.read_exact(&mut answer).await.expect("answers");
        assert_eq!(answer, [0, 0, 0, 1, 5]);
        connection.write_all(&[0, 1, 11]).await.expect("writes");
        assert_eq!(receive(&mut behind).await.expect("asks"), [11]);
        send(&mut behind, &[12, 0, 0, 0, 0]).await.expect("answers");
        assert_eq!(receive(&mut connection).await.expect("answers"), [12, 0, 0, 0, 0]);
        // A message that is too long ends the connection.
        connection.write_all(&[0xff; 4]).await.expect("writes");
        assert!(connection.read_u8().await.is_err());
    }
}
