//! Authorities of a test, and TLS before a server that speaks none.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buildkit_util_appcontext::{TaskGuard, spawn};
use buildkit_util_testutil::Run;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority (`ca.crt`), and a server and a client that it has signed (`NAME.cert`, `NAME.key`).
pub struct Certificates(TempDir);

impl Certificates {
    pub fn new() -> Self {
        let this = Self(tempfile::tempdir().expect("a directory"));
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        this.openssl(&format!("req -x509 {key} -days 2 -subj /CN=ca -keyout ca.pem -out ca.crt"));
        std::fs::write(this.path("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost").expect("written");
        for name in ["server", "client"] {
            this.openssl(&format!("req {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
            this.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.pem -CAcreateserial -days 2 -extfile san -out {name}.cert"
            ));
        }
        this
    }

    /// A certificate for this machine's address and its key, which nobody else has signed.
    pub fn signed_by_itself(&self, is_authority: &str) -> (PathBuf, PathBuf) {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=own -keyout own.pem \
             -out own.crt -addext basicConstraints=CA:{is_authority} -addext subjectAltName=IP:127.0.0.1"
        ));
        (self.path("own.crt"), self.path("own.pem"))
    }

    fn openssl(&self, args: &str) {
        Run::new("openssl").dir(self.dir()).args(args.split_whitespace()).run().assert_ok();
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }
}

/// Speaks TLS for a server; ends with the value.
pub struct Front {
    pub address: SocketAddr,
    _task: TaskGuard<()>,
}

impl Front {
    pub async fn of(server: &str, certificates: &Certificates) -> Self {
        let server: SocketAddr = server.parse().expect("an address");
        let chain = CertificateDer::pem_file_iter(certificates.path("server.cert")).expect("a file");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("free port");
        let address = listener.local_addr().expect("an address");
        let task = spawn(async move {
            let mut open: Vec<TaskGuard<()>> = Vec::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                open.retain(|task| !task.is_finished());
                let acceptor = acceptor.clone();
                open.push(spawn(async move {
                    let Ok(mut outer) = acceptor.accept(stream).await else { return };
                    let Ok(mut inner) = TcpStream::connect(server).await else { return };
                    // Either may leave at any time.
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                }));
            }
        });
        Self { address, _task: task }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }
}
