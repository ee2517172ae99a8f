use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::address::BoxStream;
use crate::{Error, Result};

/// Settings of an encrypted connection: whom to trust and who one is oneself.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl Tls {
    /// Trusts those whom the authority in `ca` vouches for, and nobody without it. `identity` is a
    /// certificate and its key. `server_name` is the name in the daemon's certificate; without it
    /// the address's host. All files are PEM.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should.
    pub fn new(
        ca: Option<&Path>,
        identity: Option<(&Path, &Path)>,
        server_name: Option<&str>,
    ) -> Result<Self> {
        let bad = |path: &Path, reason: String| Error::Credentials { path: path.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        if let Some(ca) = ca {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| bad(ca, error.to_string()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((certificate, key)) => {
                let private =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error.to_string()))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, private)
                    .map_err(|error| bad(certificate, error.to_string()))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config), server_name: server_name.map(str::to_owned) })
    }

    /// The files of an authority, a certificate and its key in a directory, by either of their usual
    /// names: `{ca,cert,key}.pem` or `ca.crt`, `tls.crt`, `tls.key`.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn files_in(dir: &Path) -> Result<[PathBuf; 3]> {
        let one_of = |names: [&str; 2]| {
            names.iter().map(|name| dir.join(name)).find(|path| path.exists()).ok_or_else(|| {
                Error::Tls(format!(
                    "directory did not contain one of the needed files: {} or {}",
                    names[0], names[1]
                ))
            })
        };
        Ok([one_of(["ca.pem", "ca.crt"])?, one_of(["cert.pem", "tls.crt"])?, one_of(["key.pem", "tls.key"])?])
    }

    /// The name that the daemon's certificate must have, if it was set.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    pub(crate) async fn connect(&self, stream: BoxStream, host: &str) -> io::Result<BoxStream> {
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.config.clone()).connect(name, stream).await?;
        Ok(Box::new(stream))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |reason: String| Error::Credentials { path: path.to_owned(), reason };
    let list = CertificateDer::pem_file_iter(path)
        .map_err(|error| bad(error.to_string()))?
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if list.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    Ok(list)
}
