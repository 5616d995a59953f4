//! TLS by a certificate given: both versions of HTTP, renewal while it runs, and clients that do not even shake hands.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use ordinaut_mcp::{config::CertificateFiles, http::Tls};
use reqwest::{Client, StatusCode, Version};
use rmcp::{
    ServiceExt as _,
    model::CallToolRequestParams,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{ANN, Fixture, Log, PATIENCE, text, until};

/// A directory with a certificate and its key, as an operator keeps them.
struct Kept(PathBuf);

impl Kept {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("ordinaut-tls-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles { certificate: self.0.join("chain.pem"), key: self.0.join("key.pem") }
    }

    /// Writes a new certificate, in two steps as others do.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(self.files().certificate, made.cert.pem()).unwrap();
        std::fs::write(self.files().key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    async fn open(&self) -> Tls {
        Tls::open(self.files()).await.unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Who trusts that certificate and no other, and speaks one HTTP.
fn client_of(trusted: &CertificateDer<'static>, http: &str) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![http.as_bytes().to_vec()];
    Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(PATIENCE).build().unwrap()
}

fn client(trusted: &CertificateDer<'static>) -> Client {
    client_of(trusted, "http/1.1")
}

fn url(fixture: &Fixture, path: &str) -> String {
    format!("https://{}{path}", fixture.address)
}

#[tokio::test]
async fn a_conversation_goes_over_tls_in_either_version_of_http_and_in_clear_in_none() {
    let kept = Kept::new();
    let trusted = kept.renew();
    let fixture = Fixture::start_over(Some(kept.open().await), |_| {}).await;
    for (version, spoken) in [(Version::HTTP_2, "h2"), (Version::HTTP_11, "http/1.1")] {
        let client = client_of(&trusted, spoken);
        let response = client.get(url(&fixture, "/healthz")).send().await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, version));
        let config = StreamableHttpClientTransportConfig::with_uri(url(&fixture, "/mcp")).auth_header(ANN);
        let chat = ().serve(StreamableHttpClientTransport::with_client(client, config)).await.unwrap();
        let answer = timeout(PATIENCE, chat.call_tool(CallToolRequestParams::new("whoami"))).await.unwrap().unwrap();
        assert_eq!(text(&answer), "ann");
        chat.cancel().await.unwrap();
    }
    assert!(crate::support::http().get(fixture.url("/healthz")).send().await.is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let (log, _keeping) = Log::keep();
    let kept = Kept::new();
    let first = kept.renew();
    let fixture =
        Fixture::start_over(Some(kept.open().await), |config| config.keep_alive = Duration::from_millis(20)).await;
    let stream = client(&first).get(url(&fixture, "/sse")).bearer_auth(ANN).send().await.unwrap();
    let mut stream = stream.bytes_stream();
    stream.next().await.unwrap().unwrap();

    std::fs::write(kept.files().key, "half a k").unwrap();
    until("the broken file is told", async || log.text().contains("the certificate that was read last stays in use"))
        .await;
    // A connection of its own each time: a handshake is what is looked at.
    assert!(client(&first).get(url(&fixture, "/healthz")).send().await.is_ok());

    let second = kept.renew();
    until("the new certificate", async || client(&second).get(url(&fixture, "/healthz")).send().await.is_ok()).await;
    assert!(client(&first).get(url(&fixture, "/healthz")).send().await.is_err());
    stream.next().await.unwrap().expect("a connection in hand lives on");
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_refused() {
    let (one, other) = (Kept::new(), Kept::new());
    one.renew();
    other.renew();
    let mixed = CertificateFiles { key: other.files().key, ..one.files() };
    assert!(Tls::open(mixed).await.unwrap_err().to_string().contains("cannot be used together"));
    let swapped = CertificateFiles { certificate: one.files().key, key: one.files().certificate };
    assert!(Tls::open(swapped).await.unwrap_err().to_string().contains("mcp.tls_certificate"));
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_let_go() {
    let kept = Kept::new();
    kept.renew();
    let patience = |config: &mut ordinaut_mcp::config::Mcp| config.header_timeout = Duration::from_millis(100);
    let fixture = Fixture::start_over(Some(kept.open().await), patience).await;
    for began in [&b""[..], &b"\x16\x03\x01\x02\x00"[..]] {
        let mut silent = TcpStream::connect(fixture.address).await.unwrap();
        silent.write_all(began).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, silent.read_to_end(&mut answer)).await.expect("the server lets go");
    }
}
