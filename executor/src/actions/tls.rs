//! The TLS settings that every outgoing connection of an action shares.
//!
//! The roots are the system's (so that a company's own authority works) together with Mozilla's (so that a bare
//! machine without `ca-certificates` works, too). Read once: loading them takes milliseconds.

use std::sync::{Arc, LazyLock};

use rustls::{ClientConfig, RootCertStore};

/// A copy of the shared settings; its contents are behind `Arc`s.
pub(crate) fn tls() -> ClientConfig {
    static TLS: LazyLock<ClientConfig> = LazyLock::new(load);
    TLS.clone()
}

fn load() -> ClientConfig {
    let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a system certificate could not be read: {error}");
    }
    roots.add_parsable_certificates(system.certs);
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
