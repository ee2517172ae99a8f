//! Listeners of the daemon.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use buildkit_cmd_buildkitd_config::Grpc;
use buildkit_session::{CONNECTION_WINDOW, MAX_MESSAGE_SIZE, STREAM_WINDOW};
use rustix::fs::{Gid, Mode, Uid};
use rustix::net::AddressFamily;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_stream::StreamExt as _;
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
            "unix" => {
                unix(Path::new(rest), grpc).with_context(|| format!("failed to listen on {address}"))?
            }
            "tcp" => {
                let tls = tls(grpc)?;
                warn_without_tls(address, tls.as_ref());
                let listener = TcpListener::bind(rest)
                    .await
                    .with_context(|| format!("failed to listen on {address}"))?;
                Listener::Tcp(listener, tls)
            }
            "fd" => {
                if !rest.is_empty() {
                    bail!("names of file descriptors are not supported: {address}");
                }
                inherited(grpc)?
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
fn inherited(grpc: &Grpc) -> anyhow::Result<Listener> {
    let mut fds = sd_notify::listen_fds().context("failed to ask the service manager for sockets")?;
    let fd = fds.next().context("the service manager handed over no socket")?;
    #[expect(unsafe_code, reason = "the protocol of socket activation passes bare numbers")]
    // SAFETY: the service manager opened the descriptor for this process, and nothing else takes it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    adopt(socket, grpc)
}

/// Listens on a socket that somebody else has bound, whatever family it is of.
fn adopt(socket: OwnedFd, grpc: &Grpc) -> anyhow::Result<Listener> {
    // Containers must not have it.
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).context("the inherited socket")?;
    rustix::io::ioctl_fionbio(&socket, true).context("the inherited socket")?;
    let family = rustix::net::getsockname(&socket).context("the inherited descriptor")?.address_family();
    match family {
        AddressFamily::UNIX => Ok(Listener::Unix(UnixListener::from_std(socket.into())?, PathBuf::new())),
        AddressFamily::INET | AddressFamily::INET6 => {
            let listener: std::net::TcpListener = socket.into();
            let tls = tls(grpc)?;
            warn_without_tls(&listener.local_addr()?.to_string(), tls.as_ref());
            Ok(Listener::Tcp(TcpListener::from_std(listener)?, tls))
        }
        other => bail!("the inherited socket has the unsupported address family {}", other.as_raw()),
    }
}

/// How long a client's machine may be out of reach before its builds are given up.
const UNREACHABLE: Duration = Duration::from_secs(15);

/// Has the system notice when the machine at the other end is gone without a word. A client that is there but
/// does not read is another matter.
fn notice_the_end(connection: &TcpStream) {
    use rustix::net::sockopt;
    let step = UNREACHABLE / 3;
    let set = || -> rustix::io::Result<()> {
        sockopt::set_tcp_nodelay(connection, true)?;
        sockopt::set_socket_keepalive(connection, true)?;
        sockopt::set_tcp_keepidle(connection, step)?;
        sockopt::set_tcp_keepintvl(connection, step)?;
        sockopt::set_tcp_keepcnt(connection, 2)?;
        // For data that is on its way nobody sends probes.
        sockopt::set_tcp_user_timeout(connection, u32::try_from(UNREACHABLE.as_millis()).unwrap_or(u32::MAX))
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "a connection is as the system makes it");
    }
}

fn warn_without_tls(address: &str, tls: Option<&ServerTlsConfig>) {
    if tls.is_none() {
        tracing::warn!(
            address,
            "TLS is not enabled for this address, so anybody who reaches it controls this machine: mutual TLS \
             is highly recommended"
        );
    }
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
            let incoming =
                TcpListenerStream::new(listener).map(|connection| connection.inspect(notice_the_end));
            server.add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(address: &str) -> Grpc {
        Grpc { address: vec![address.to_owned()], ..Grpc::default() }
    }

    #[tokio::test]
    async fn inherited_sockets_are_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let grpc = Grpc::default();
        let unix = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        // It belongs to the service manager: its name is not removed in the end.
        let adopted = adopt(unix.into(), &grpc).unwrap();
        assert!(matches!(adopted, Listener::Unix(_, path) if path.as_os_str().is_empty()));
        for name in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(tcp) = std::net::TcpListener::bind(name) else { continue };
            let expect = tcp.local_addr().unwrap();
            let Listener::Tcp(adopted, None) = adopt(tcp.into(), &grpc).unwrap() else { panic!("{name}") };
            assert_eq!(adopted.local_addr().unwrap(), expect);
            let client = std::net::TcpStream::connect(expect).unwrap();
            let (accepted, _) = adopted.accept().await.unwrap();
            notice_the_end(&accepted);
            assert!(rustix::net::sockopt::socket_keepalive(&accepted).unwrap());
            assert_eq!(rustix::net::sockopt::tcp_user_timeout(&accepted).unwrap(), 15_000);
            drop(client);
        }
        let file = fs_err::File::create(dir.path().join("file")).unwrap();
        assert!(adopt(file.into_file().into(), &grpc).is_err());
        // Half of a key pair is refused for these as well.
        let tls = buildkit_cmd_buildkitd_config::Tls { cert: "cert.pem".into(), ..Default::default() };
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(adopt(tcp.into(), &Grpc { tls, ..Grpc::default() }).is_err());
    }

    #[tokio::test]
    async fn addresses_that_cannot_be_are_named() {
        for (given, expect) in [
            ("/run/x.sock", "does not contain proto"),
            ("npipe:////./pipe/x", "not supported"),
            ("fd://name", "not supported"),
            ("tcp://127.0.0.1", "failed to listen on tcp://127.0.0.1"),
            ("fd://", "no socket"),
        ] {
            let error = bind(&address(given)).await.err().unwrap();
            assert!(format!("{error:#}").contains(expect), "{given}: {error:#}");
        }
        assert!(bind(&Grpc::default()).await.is_err());
    }
}
