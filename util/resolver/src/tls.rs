//! TLS towards registries: which authorities are trusted, and which certificates are shown.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::KeyPair;

/// Files that TLS towards one host is made of.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Authorities that are trusted besides those of the system.
    pub root_cas: Vec<PathBuf>,
    /// Client certificates.
    pub key_pairs: Vec<KeyPair>,
    /// Directories of authorities (`*.crt`) and client certificates (`*.cert` with `*.key`).
    pub dirs: Vec<PathBuf>,
    /// Certificates are not checked.
    pub insecure: bool,
}

/// TLS towards one host.
pub(crate) struct Tls {
    /// For the host itself, which is shown client certificates.
    pub(crate) own: ClientConfig,
    /// For hosts that it sends us to, which are not.
    pub(crate) other: ClientConfig,
}

impl TlsFiles {
    /// Reads the files; blocks.
    ///
    /// # Errors
    /// The file and what is wrong with it.
    pub(crate) fn load(&self) -> Result<Tls, String> {
        let (mut cas, mut pairs) = (self.root_cas.clone(), self.key_pairs.clone());
        for dir in &self.dirs {
            add_dir(dir, &mut cas, &mut pairs)?;
        }
        let (mut roots, mut named) = (system_roots().clone(), Vec::new());
        for ca in &cas {
            let pem = fs_err::read(ca).map_err(|error| error.to_string())?;
            // As elsewhere, what is no certificate in such a file is passed over.
            named.extend(CertificateDer::pem_slice_iter(&pem).flatten());
        }
        roots.add_parsable_certificates(named.iter().cloned());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let keys = pairs.iter().map(|pair| certified(pair, &provider)).collect::<Result<Vec<_>, _>>()?;
        Ok(Tls {
            own: self.config(&roots, &named, keys, &provider)?,
            other: self.config(&roots, &named, Vec::new(), &provider)?,
        })
    }

    fn config(
        &self,
        roots: &RootCertStore,
        named: &[CertificateDer<'static>],
        keys: Vec<Arc<CertifiedKey>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider.clone())))
        } else if named.is_empty() {
            builder.with_root_certificates(roots.clone())
        } else {
            let usual = WebPkiServerVerifier::builder_with_provider(roots.clone().into(), provider.clone());
            let usual = usual.build().map_err(|error| error.to_string())?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Named { usual, named: named.to_vec() }))
        };
        let mut config = builder.with_no_client_auth();
        if !keys.is_empty() {
            config.client_auth_cert_resolver = Arc::new(Keys(keys));
        }
        // One request at a time on a connection: the windows of HTTP/2 make uploads slow.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The authorities of the system, read once.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!("authorities of the system: {error}");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

fn add_dir(dir: &Path, cas: &mut Vec<PathBuf>, pairs: &mut Vec<KeyPair>) -> Result<(), String> {
    let entries = match fs_err::read_dir(dir) {
        Ok(entries) => entries,
        // Directories of registries that nobody set up.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| error.to_string())?.path());
    }
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => cas.push(path),
            Some("cert") => pairs.push(KeyPair { key: path.with_extension("key"), cert: path }),
            _ => {}
        }
    }
    Ok(())
}

fn certified(pair: &KeyPair, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let cert = fs_err::read(&pair.cert).map_err(|error| error.to_string())?;
    let chain = CertificateDer::pem_slice_iter(&cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(&pair.cert, &error))?;
    if chain.is_empty() {
        return Err(failed(&pair.cert, &"there is no certificate in it"));
    }
    let key = fs_err::read(&pair.key).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| failed(&pair.key, &error))?;
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(|error| failed(&pair.key, &error))
}

/// Shows the first certificate whose key can sign as the host wants.
#[derive(Debug)]
struct Keys(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Keys {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes what the authorities have signed, and the certificates that are named as authorities when hosts
/// show them as their own: a certificate that has signed itself is mostly made so, and the usual check
/// takes no authority for a host.
#[derive(Debug)]
struct Named {
    usual: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.usual.verify_server_cert(cert, chain, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.named.iter().any(|named| named.as_ref() == cert.as_ref()) =>
            {
                verify_server_name(&ParsedCertificate::try_from(cert)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
