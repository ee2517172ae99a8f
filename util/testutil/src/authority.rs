//! Certificates that only the tests trust.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::TempDir;

use crate::Run;

/// A certificate authority of one test, and one certificate of it for servers on the loopback interface. Cheap to clone;
/// its files end with the last clone.
#[derive(Clone, Debug)]
pub struct Authority {
    dir: Arc<TempDir>,
}

impl Authority {
    /// Makes the authority and the certificate.
    ///
    /// # Panics
    /// When `openssl` does not make them.
    pub fn new() -> Self {
        let this = Self { dir: Arc::new(tempfile::tempdir().expect("directory for certificates")) };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";
        this.openssl(&format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
        fs_err::write(
            this.file("server.ext"),
            "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\nextendedKeyUsage=serverAuth\n",
        )
        .expect("write extensions");
        this.openssl(&format!("req -new {key} -subj /CN=server -keyout server.key -out server.csr"));
        this.openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem");
        this
    }

    fn openssl(&self, args: &str) {
        Run::new("openssl").dir(self.dir.path()).args(args.split_whitespace()).run().assert_ok();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// File of the authority's certificate, which clients have to trust.
    pub fn certificate(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// File of the certificate of servers.
    pub fn server_certificate(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// File of the key of servers, in PKCS #8.
    pub fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// The server's certificate as it is sent.
    pub(crate) fn server_der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.server_certificate()).expect("certificate")
    }

    /// The key of servers.
    pub(crate) fn server_key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.server_key()).expect("key")
    }

    /// Clients that trust nobody else.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.certificate()).expect("certificate"))
            .expect("certificate of an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }

    /// Servers with the certificate.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS");
        let chain = vec![self.server_der()];
        Arc::new(
            config.with_no_client_auth().with_single_cert(chain, self.server_key_der()).expect("key fits"),
        )
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
