use std::collections::BTreeSet;
use std::convert::Infallible;

use http::{Request, Response};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

use crate::{CONNECTION_WINDOW, Headers, MAX_MESSAGE_SIZE, STREAM_WINDOW, method_url};

/// The client's end of a session: the services that it lends to its builds.
pub struct SessionServer {
    id: String,
    shared_key: String,
    routes: Routes,
    methods: BTreeSet<String>,
}

impl SessionServer {
    /// A session with a new random id that offers the health service only.
    ///
    /// `shared_key` is the same for all sessions of one client on one machine; the daemon reuses
    /// transferred directories between sessions that share it.
    pub async fn new(shared_key: &str) -> Self {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let mut server = Self {
            id: buildkit_identity::new_id(),
            shared_key: shared_key.to_owned(),
            routes: Routes::default(),
            methods: BTreeSet::new(),
        };
        server.allow(health, &["Check", "Watch"]);
        server
    }

    /// Offers a service with these methods (short names, such as `DiffCopy`). The service must accept
    /// messages of [`MAX_MESSAGE_SIZE`].
    pub fn allow<S>(&mut self, service: S, methods: &[&str])
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes = std::mem::take(&mut self.routes).add_service(service);
        self.methods.extend(methods.iter().map(|method| method_url(S::NAME, method)));
    }

    /// Id of the session.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the daemon must be told when the session is opened.
    pub fn headers(&self) -> Headers {
        Headers::new(&self.id, &self.shared_key, self.methods.iter().cloned())
    }

    /// Serves over a byte stream until the daemon closes it or the future is dropped.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn serve<T>(&self, io: T) -> Result<(), hyper::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = TowerToHyperService::new(self.routes.clone().prepare());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .max_header_list_size(u32::try_from(MAX_MESSAGE_SIZE).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(64 << 10)
            .max_local_error_reset_streams(None)
            .max_pending_accept_reset_streams(1 << 16);
        builder.serve_connection(TokioIo::new(io), service).await
    }
}
