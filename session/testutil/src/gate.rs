use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that can fall silent: nothing arrives, nothing leaves, and nothing says so.
pub(crate) struct Gate<T> {
    io: T,
    silence: Silence,
}

/// Makes a [`Gate`] silent.
#[derive(Clone, Default)]
pub(crate) struct Silence {
    is_silent: Arc<Mutex<bool>>,
}

impl Silence {
    pub(crate) fn fall(&self) {
        *self.is_silent.lock() = true;
    }
}

impl<T> Gate<T> {
    pub(crate) fn new(io: T, silence: Silence) -> Self {
        Self { io, silence }
    }

    /// Work on the stream, or nothing ever again. Holding the lock over it means that nothing passes
    /// once [`Silence::fall`] has returned.
    fn pass<R>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        work: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R>
    where
        T: Unpin,
    {
        let silence = self.silence.clone();
        let is_silent = silence.is_silent.lock();
        if *is_silent {
            // Nobody wakes this task for the stream any more.
            return Poll::Pending;
        }
        work(Pin::new(&mut self.io), cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.pass(cx, |io, cx| io.poll_read(cx, buf))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.pass(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pass(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pass(cx, |io, cx| io.poll_shutdown(cx))
    }
}
