//! Lets only those requests reach an agent that change nothing.
//!
//! The protocol (draft-miller-ssh-agent, section 3) is messages of a length, a type and a body; each
//! request gets one answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use buildkit_util_appcontext::{TaskGuard, spawn};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

/// Types of the requests for the list of keys and for a signature.
const ALLOWED: [u8; 2] = [11, 13];
/// The whole answer to a request that is refused.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// Bytes of a message at most; OpenSSH has the same limit.
const MAX_MESSAGE: usize = 256 * 1024;
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

async fn exchange<C, A>(mut client: C, mut agent: A) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let request = message(&mut client).await?;
        if request.first().is_some_and(|kind| ALLOWED.contains(kind)) {
            send(&mut agent, &request).await?;
            let answer = message(&mut agent).await?;
            send(&mut client, &answer).await?;
        } else {
            client.write_all(&FAILURE).await?;
        }
    }
}

async fn message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length == 0 || length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
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

    #[tokio::test]
    async fn only_reading_requests_reach_the_agent() {
        let (agent, mut behind) = tokio::io::duplex(BUFFER);
        let mut connection = read_only(agent);
        // Remove all identities, then list them, in pieces.
        connection.write_all(&[0, 0, 0, 1, 19, 0, 0]).await.expect("writes");
        let mut answer = [0; 5];
        connection.read_exact(&mut answer).await.expect("answers");
        assert_eq!(answer, FAILURE);
        connection.write_all(&[0, 1, 11]).await.expect("writes");
        assert_eq!(message(&mut behind).await.expect("asks"), [11]);
        send(&mut behind, &[12, 0, 0, 0, 0]).await.expect("answers");
        assert_eq!(message(&mut connection).await.expect("answers"), [12, 0, 0, 0, 0]);
        // A message that is too long ends the connection.
        connection.write_all(&[0xff; 4]).await.expect("writes");
        assert!(connection.read_u8().await.is_err());
    }
}
