//! TLS by a certificate that the operator gives, and renews: the files are read again while the server runs, and a
//! handshake that begins after a change gets the new one. Connections in hand live on.
//!
//! A file that cannot be used, because it is half written say, changes nothing: the last good one goes on, and is
//! replaced as soon as the files are good again.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::config::CertificateFiles;

/// The server's end of TLS, with the certificate as it is now.
#[derive(Debug)]
pub struct Tls {
    files: CertificateFiles,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    /// What was read last, good or not: one mistake is told once.
    read: Mutex<Read>,
}

/// What two files hold: that of the certificate and that of the key.
type Read = (Vec<u8>, Vec<u8>);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{what} `{path}` cannot be read")]
    Unreadable { what: &'static str, path: String, source: std::io::Error },
    #[error(
        "`mcp.tls_certificate` names a file without a certificate; it must hold the certificate and its chain, as PEM"
    )]
    NoCertificate,
    #[error("`mcp.tls_key` names a file without a private key; it must hold one, as PEM, and not encrypted")]
    NoKey,
    #[error("`mcp.tls_certificate` and `mcp.tls_key` cannot be used together")]
    Unusable(#[source] rustls::Error),
}

impl Tls {
    /// # Errors
    /// The files are not there, or hold no certificate and key that belong together.
    pub async fn open(files: CertificateFiles) -> Result<Self, TlsError> {
        let read = read(&files).await?;
        let provider = Arc::new(ring::default_provider());
        let current = Arc::new(Current(RwLock::new(certified(&read, &provider)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { files, config: Arc::new(config), current, read: Mutex::new(read) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.config.clone().into()
    }

    /// Reads the files again, and uses what they hold from now on if it can be used.
    pub(super) async fn renew(&self) {
        let mut last = self.read.lock().await;
        let now = match read(&self.files).await {
            Ok(now) if now == *last => return,
            Ok(now) => now,
            Err(error) => {
                // Told once, as what is in no file.
                if *last != Read::default() {
                    warn!(error = &error as &dyn std::error::Error, "the certificate that was read last stays in use");
                    *last = Read::default();
                }
                return;
            }
        };
        match certified(&now, self.config.crypto_provider()) {
            Ok(certified) => {
                info!("the certificate was renewed");
                self.current.replace(certified);
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the certificate that was read last stays in use");
            }
        }
        *last = now;
    }
}

async fn read(files: &CertificateFiles) -> Result<Read, TlsError> {
    Ok((read_one("the certificate", &files.certificate).await?, read_one("the certificate's key", &files.key).await?))
}

async fn read_one(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { what, path: path.display().to_string(), source };
    tokio::fs::read(path).await.map_err(unreadable)
}

fn certified((certificate, key): &Read, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|_| TlsError::NoCertificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(TlsError::Unusable)
}

/// The certificate of handshakes that begin now.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn replace(&self, certified: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
