//! A server that answers everything after a while, and counts how many wait for it at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::sleep,
};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
/// No request of a bench is as long.
const REQUEST: usize = 16 * 1024;

/// Serves until it is dropped.
pub(crate) struct Slow {
    pub(crate) address: String,
    waiting: Arc<Waiting>,
    serving: AbortHandle,
}

#[derive(Default)]
struct Waiting {
    now: AtomicU32,
    most: AtomicU32,
}

impl Slow {
    pub(crate) async fn start(wait: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr().context("where it listens")?.to_string();
        let waiting = Arc::new(Waiting::default());
        let shared = waiting.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                // Whoever goes away in the middle is nobody's loss.
                tokio::spawn(async move { answer(stream, wait, &shared).await.ok() });
            }
        });
        Ok(Self { address, waiting, serving: serving.abort_handle() })
    }

    /// The most that waited at once since this was asked last.
    pub(crate) fn most(&self) -> u32 {
        self.waiting.most.swap(0, Relaxed)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut stream: TcpStream, wait: Duration, waiting: &Waiting) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(REQUEST);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let now = waiting.now.fetch_add(1, Relaxed) + 1;
    waiting.most.fetch_max(now, Relaxed);
    sleep(wait).await;
    waiting.now.fetch_sub(1, Relaxed);
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}
