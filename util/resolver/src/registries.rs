use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use buildkit_session::SessionGroup;
use buildkit_util_appcontext as tasks;
use buildkit_util_reference::Reference;
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use tokio::sync::OnceCell;

use crate::authorizer::Authorizer;
use crate::error::Error;
use crate::hosts::{Connections, Host, Scheme, SharedConnections, is_local};
use crate::limited::Limited;
use crate::link::Link;
use crate::repository::Repository;
use crate::tls::TlsFiles;
use crate::{Access, RegistryOptions};

/// Hosts whose connections are kept; names come from clients.
const MAX_HOSTS: usize = 1024;

/// The registries that a daemon knows, with the connections to them and the tokens for them. Clones are
/// the same.
#[derive(Clone)]
pub struct Registries {
    inner: Arc<Inner>,
}

type Cell = Arc<OnceCell<SharedConnections>>;

pub(crate) struct Inner {
    pub(crate) options: RegistryOptions,
    pub(crate) authorizer: Authorizer,
    pub(crate) limited: Limited,
    /// By host, the name under which it is configured, how it is spoken to, and whether certificates are not
    /// checked.
    connections: Mutex<HashMap<(String, String, Scheme, bool), Cell>>,
    /// To hosts that are no registries.
    others: OnceCell<Client>,
}

impl Registries {
    /// Nothing is read or asked yet.
    pub fn new(options: RegistryOptions) -> Self {
        let inner = Inner {
            authorizer: Authorizer::new(options.sessions.clone()),
            limited: Limited::new(options.max_concurrency),
            connections: Mutex::default(),
            others: OnceCell::new(),
            options,
        };
        Self { inner: Arc::new(inner) }
    }

    /// A repository, asked with the credentials of these sessions. `insecure` takes plain HTTP and any
    /// certificate, whatever is configured. Only [`Repository::resolve`] looks at the tag and the digest
    /// of the name.
    pub fn repository(
        &self,
        name: &Reference,
        group: &SessionGroup,
        access: Access,
        insecure: bool,
    ) -> Repository {
        Repository::new(self.inner.clone(), name.clone(), group.clone(), access, insecure)
    }
}

impl Inner {
    /// A repository at a host, after its files of certificates were read.
    pub(crate) async fn link(
        self: &Arc<Self>,
        host: Host,
        name: &Reference,
        group: &SessionGroup,
        access: Access,
    ) -> Result<Link, Error> {
        let key = (host.name.clone(), host.configured.clone(), host.scheme, host.insecure);
        let cell = {
            let mut connections = self.connections.lock();
            if connections.len() >= MAX_HOSTS {
                connections.clear();
            }
            connections.entry(key).or_default().clone()
        };
        let connect = || async {
            let (files, local) = (host.tls(&self.options.registries), is_local(&host.name));
            let (own, other) = self
                .clients(files, local)
                .await
                .map_err(|reason| Error::Config { host: host.name.clone(), reason })?;
            Ok(Arc::new(Connections { own, other, is_plain: AtomicBool::new(false) }))
        };
        let connections = cell.get_or_try_init(connect).await?.clone();
        Ok(Link {
            inner: self.clone(),
            repository: host.repository(name.path()),
            host,
            connections,
            domain: name.domain().to_owned(),
            group: group.clone(),
            access,
        })
    }

    /// Connections to hosts that are no registries.
    pub(crate) async fn others(&self) -> Result<Client, Error> {
        let connect = || async {
            let found = self.clients(TlsFiles::default(), false).await;
            let reason = |reason| Error::Config { host: "of layers elsewhere".to_owned(), reason };
            found.map(|(_, other)| other).map_err(reason)
        };
        self.others.get_or_try_init(connect).await.cloned()
    }

    async fn clients(&self, files: TlsFiles, local: bool) -> Result<(Client, Client), String> {
        let loaded = tasks::spawn_blocking(move || files.load()).await;
        let tls = loaded.map_err(|error| error.to_string())??;
        let connect = self.options.limits.connect;
        let mut own = builder(connect).tls_backend_preconfigured(tls.own);
        if local {
            // No proxy gets there.
            own = own.no_proxy();
        }
        let other = builder(connect).tls_backend_preconfigured(tls.other);
        let built = |builder: ClientBuilder| builder.build().map_err(|error| error.to_string());
        Ok((built(own)?, built(other)?))
    }
}

/// Connections as all hosts have them: redirects are followed by us, or not at all.
fn builder(connect: Duration) -> ClientBuilder {
    Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .http1_only()
        .connect_timeout(connect)
        .pool_max_idle_per_host(8)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_keepalive(Duration::from_secs(60))
}

/// Connections for asking realms from a client's machine.
///
/// # Errors
/// The file that cannot be used, and why.
pub(crate) async fn realm_client(files: TlsFiles, connect: Duration) -> Result<Client, String> {
    let loaded = tasks::spawn_blocking(move || files.load()).await;
    let tls = loaded.map_err(|error| error.to_string())??;
    builder(connect).tls_backend_preconfigured(tls.own).build().map_err(|error| error.to_string())
}
