//! Listeners of the daemon.

use std::os::fd::FromRawFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use buildkit_cmd_buildkitd_config::Grpc;
use buildkit_session::{CONNECTION_WINDOW, MAX_MESSAGE_SIZE, STREAM_WINDOW};
use rustix::fs::{Gid, Mode, Uid};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// A bound address.
pub(crate) enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener, Option<ServerTlsConfig>),
}

/// Binds all addresses; nothing is accepted yet.
pub(crate) async fn bind(grpc: &Grpc) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in &grpc.address {
        let (scheme, rest) = address.split_once("://").with_context(|| {
            format!("address {address} does not contain proto, you meant unix://{address} ?")
        })?;
        listeners.push(match scheme {
            "unix" => unix(Path::new(rest), grpc).with_context(|| format!("failed to listen on {address}"))?,
            "tcp" => {
                let tls = tls(grpc)?;
                if tls.is_none() {
                    tracing::warn!(
                        address,
                        "TLS is not enabled for this address, so anybody who reaches it controls this machine: \
                         mutual TLS is highly recommended"
                    );
                }
                let listener = TcpListener::bind(rest)
                    .await
                    .with_context(|| format!("failed to listen on {address}"))?;
                Listener::Tcp(listener, tls)
            }
            "fd" => {
                if !rest.is_empty() {
                    bail!("names of file descriptors are not supported: {address}");
                }
                inherited()?
            }
            _ => bail!("addr {address} not supported"),
        });
    }
    if listeners.is_empty() {
        bail!("configured list of addresses is empty");
    }
    Ok(listeners)
}

fn unix(path: &Path, grpc: &Grpc) -> anyhow::Result<Listener> {
    if !grpc.tls.cert.is_empty() {
        tracing::warn!(path = %path.display(), "TLS is disabled for unix sockets");
    }
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    // The lock on the state directory is ours, so a socket that is there is nobody's.
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    if grpc.uid.is_some() || grpc.gid.is_some() {
        rustix::fs::chown(path, grpc.uid.map(Uid::from_raw), grpc.gid.map(Gid::from_raw))?;
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(0o660))?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

/// The first socket that the service manager hands over.
fn inherited() -> anyhow::Result<Listener> {
    let mut fds = sd_notify::listen_fds().context("failed to ask the service manager for sockets")?;
    let fd = fds.next().context("the service manager handed over no socket")?;
    #[expect(unsafe_code, reason = "the protocol of socket activation passes bare numbers")]
    // SAFETY: the service manager opened the descriptor for this process, and nothing else takes it.
    let listener = unsafe { std::os::unix::net::UnixListener::from_raw_fd(fd) };
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(UnixListener::from_std(listener)?, PathBuf::new()))
}

fn tls(grpc: &Grpc) -> anyhow::Result<Option<ServerTlsConfig>> {
    let files = &grpc.tls;
    match (files.cert.is_empty(), files.key.is_empty()) {
        (true, true) => return Ok(None),
        (false, false) => {}
        _ => bail!("you must specify key and cert file if one is specified"),
    }
    let identity = Identity::from_pem(fs_err::read(&files.cert)?, fs_err::read(&files.key)?);
    let mut config = ServerTlsConfig::new().identity(identity);
    if !files.ca.is_empty() {
        config = config.client_ca_root(Certificate::from_pem(fs_err::read(&files.ca)?));
    }
    Ok(Some(config))
}

/// Serves one listener until `stop` fires and its calls have ended.
pub(crate) async fn serve(listener: Listener, routes: Routes, stop: CancellationToken) -> anyhow::Result<()> {
    let mut server = Server::builder()
        .http2_max_header_list_size(u32::try_from(MAX_MESSAGE_SIZE).ok())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Clients that cancel many streams on one connection are not attackers.
        .http2_max_pending_accept_reset_streams(Some(1 << 16))
        .http2_max_local_error_reset_streams(None);
    match listener {
        Listener::Unix(listener, path) => {
            let incoming = UnixListenerStream::new(listener);
            let result =
                server.add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled()).await;
            if !path.as_os_str().is_empty() {
                let _ = fs_err::remove_file(&path);
            }
            result?;
        }
        Listener::Tcp(listener, tls) => {
            if let Some(tls) = tls {
                server = server.tls_config(tls)?;
            }
            let incoming = TcpListenerStream::new(listener);
            server.add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled()).await?;
        }
    }
    Ok(())
}
