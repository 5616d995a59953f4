//! A way to PostgreSQL that can go deaf in the middle of a commit.
//!
//! A connection that went deaf stays open and carries nothing any more, as through a firewall that forgot it; others,
//! and new ones, are unharmed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Mutex,
};
use tokio_util::sync::CancellationToken;
use url::Url;

/// What becomes of the commit at which a connection goes deaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// It arrives, and its answer does not.
    Arrives,
    /// It is lost; the server hears that its client is gone.
    IsLost,
}

/// Ends with the test's runtime.
#[derive(Clone)]
pub struct HalfOpen {
    pub url: String,
    /// The connection to make deaf next: the one that sends this text, at its commit after it.
    next: Arc<Mutex<Option<(&'static str, Commit)>>>,
    /// Connections that are deaf, and that their client still holds.
    deaf: Arc<AtomicUsize>,
    /// How many ever were.
    ever: Arc<AtomicUsize>,
}

impl HalfOpen {
    pub async fn before(database_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let real = Url::parse(database_url).unwrap();
        let mut url = real.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let proxy = Self { url: url.into(), next: Arc::default(), deaf: Arc::default(), ever: Arc::default() };
        let serving = proxy.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (serving, real) = (serving.clone(), real.clone());
                tokio::spawn(async move { serving.connect(client, &real).await });
            }
        });
        proxy
    }

    /// The next connection that sends `text` goes deaf at its next commit.
    pub async fn deafen(&self, text: &'static str, commit: Commit) {
        *self.next.lock().await = Some((text, commit));
    }

    /// Connections that are deaf now, and that ever were.
    pub fn deaf(&self) -> (usize, usize) {
        (self.deaf.load(Ordering::SeqCst), self.ever.load(Ordering::SeqCst))
    }

    async fn connect(&self, client: TcpStream, real: &Url) {
        // A socket's directory stands percent-encoded in the place of the host.
        let host = url::form_urlencoded::parse(real.host_str().unwrap().as_bytes()).next().unwrap().0;
        let port = real.port().unwrap_or(5432);
        if host.starts_with('/') {
            let server = UnixStream::connect(format!("{host}/.s.PGSQL.{port}")).await.unwrap();
            self.carry(client, server).await;
        } else {
            let server = TcpStream::connect((&*host, port)).await.unwrap();
            self.carry(client, server).await;
        }
    }

    async fn carry(&self, client: TcpStream, server: impl AsyncRead + AsyncWrite + Send + 'static) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = split(server);
        let (deaf, over) = (CancellationToken::new(), CancellationToken::new());
        let _over = over.clone().drop_guard();
        let went_deaf = deaf.clone();
        tokio::spawn(async move {
            let answers = tokio::io::copy(&mut from_server, &mut to_client);
            if went_deaf.run_until_cancelled(answers).await.is_none() {
                drop(from_server);
                // Kept, so that the client does not hear of it.
                over.cancelled().await;
                drop(to_client);
            }
        });
        let mut chosen = None;
        let mut said = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_client.read(&mut said).await {
            let text = &said[..n];
            if chosen.is_none() {
                let mut next = self.next.lock().await;
                chosen = next.take_if(|(wanted, _)| contains(text, wanted)).map(|(_, commit)| commit);
            }
            let at_commit = chosen.filter(|_| contains(text, "COMMIT"));
            if at_commit != Some(Commit::IsLost) && to_server.write_all(text).await.is_err() {
                return;
            }
            if at_commit.is_some() {
                deaf.cancel();
                break;
            }
        }
        if deaf.is_cancelled() {
            self.ever.fetch_add(1, Ordering::SeqCst);
            self.deaf.fetch_add(1, Ordering::SeqCst);
            drop(to_server);
            while matches!(from_client.read(&mut said).await, Ok(1..)) {}
            self.deaf.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn contains(text: &[u8], wanted: &str) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}
