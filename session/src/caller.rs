use std::collections::{HashMap, HashSet};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::{Channel, Endpoint};

use crate::{CONNECTION_WINDOW, MAX_MESSAGE_SIZE, STREAM_WINDOW};

const SESSION_ID: &str = "x-docker-expose-session-uuid";
const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
const METHOD: &str = "x-docker-expose-session-grpc-method";
const HEALTH_TIMEOUT: &str = "x-buildkit-session-health-custom-timeout";

/// What a client says of its session when it opens it: header names and values in lower-case names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    values: HashMap<String, Vec<String>>,
}

impl Headers {
    /// Headers of a session with this id and shared key that offers `methods` (full paths).
    pub fn new(id: &str, shared_key: &str, methods: impl IntoIterator<Item = String>) -> Self {
        let mut headers = Self::default();
        headers.append(SESSION_ID, id.to_owned());
        headers.append(SHARED_KEY, shared_key.to_owned());
        for method in methods {
            headers.append(METHOD, method);
        }
        headers
    }

    /// Adds a value; names are compared without case.
    pub fn append(&mut self, name: &str, value: String) {
        self.values.entry(name.to_ascii_lowercase()).or_default().push(value);
    }

    /// All names with all their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())))
    }

    fn first(&self, name: &str) -> &str {
        self.values.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// Id of the session; empty when the client gave none.
    pub fn session_id(&self) -> &str {
        self.first(SESSION_ID)
    }

    /// Key that sessions of one client on one machine share.
    pub fn shared_key(&self) -> &str {
        self.first(SHARED_KEY)
    }

    /// Timeout of health checks that the client asks for, in milliseconds.
    pub fn health_timeout_ms(&self) -> Option<u64> {
        self.first(HEALTH_TIMEOUT).parse().ok().filter(|ms| *ms > 0)
    }

    fn methods(&self) -> HashSet<String> {
        self.values
            .get(METHOD)
            .map(|values| values.iter().map(|value| value.to_ascii_lowercase()).collect())
            .unwrap_or_default()
    }
}

/// Full path of a gRPC method, such as `/moby.filesync.v1.FileSync/DiffCopy`.
pub fn method_url(service: &str, method: &str) -> String {
    format!("/{service}/{method}")
}

/// The daemon's end of a session. Clones are the same session.
#[derive(Clone)]
pub struct SessionCaller {
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    shared_key: String,
    methods: HashSet<String>,
    channel: Channel,
    closed: CancellationToken,
}

impl SessionCaller {
    /// Connects as gRPC client over the byte stream that a client opened.
    pub(crate) async fn connect<T>(
        io: T,
        headers: &Headers,
        closed: CancellationToken,
    ) -> Result<Self, tonic::transport::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // There is one connection only: when it breaks, the session is over.
        let mut io = Some(TokioIo::new(CloseSignal::new(io, closed.clone())));
        let channel = Endpoint::from_static("http://localhost")
            .http2_max_header_list_size(u32::try_from(MAX_MESSAGE_SIZE).unwrap_or(u32::MAX))
            .http2_max_local_error_reset_streams(None)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_with_connector(tower::service_fn(move |_| {
                let io = io.take();
                async move { io.ok_or_else(|| io::Error::other("Session connection is closed")) }
            }))
            .await?;
        Ok(Self {
            inner: Arc::new(Inner {
                id: headers.session_id().to_owned(),
                shared_key: headers.shared_key().to_owned(),
                methods: headers.methods(),
                channel,
                closed,
            }),
        })
    }

    /// Id of the session.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Key that sessions of one client on one machine share; may be empty.
    pub fn shared_key(&self) -> &str {
        &self.inner.shared_key
    }

    /// Whether the client offers a method, given by its full path; case does not matter.
    pub fn supports(&self, method: &str) -> bool {
        self.inner.methods.contains(&method.to_ascii_lowercase())
    }

    /// The connection for generated clients. Set their message size limits to [`MAX_MESSAGE_SIZE`].
    pub fn channel(&self) -> Channel {
        self.inner.channel.clone()
    }

    /// Fires when the session is over.
    pub fn closed(&self) -> &CancellationToken {
        &self.inner.closed
    }
}

/// Fires a token when the byte stream ends, whoever ends it, and ends the byte stream when the token
/// fires: calls to a client of which nothing is heard any more must fail.
struct CloseSignal<T> {
    io: T,
    closed: CancellationToken,
    wait: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<T> CloseSignal<T> {
    fn new(io: T, closed: CancellationToken) -> Self {
        Self { io, wait: Box::pin(closed.clone().cancelled_owned()), closed }
    }
}

impl<T> Drop for CloseSignal<T> {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

fn over() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "Session is closed")
}

impl<T: AsyncRead + Unpin> AsyncRead for CloseSignal<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A connection always has a read under way, so that it is woken by this.
        if self.wait.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(over()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for CloseSignal<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed.is_cancelled() {
            return Poll::Ready(Err(over()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed.is_cancelled() {
            return Poll::Ready(Err(over()));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed.is_cancelled() {
            // What is left to be sent will not be read.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
