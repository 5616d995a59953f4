//! What the steps of a lab call: an HTTP server that writes each call to its log, and the log to disk, before it answers.
//!
//! The log is a line of JSON a call, in the order of arrival; calls that arrive together share one flush. The answer is
//! the call's number, by which a kept result can be told from another call's under the same key.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::any,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{clock, histories::Call};

/// Calls that wait to be written down.
const WAITING: usize = 1024;
/// What `/endless` is made of.
const CHUNK: &[u8] = &[b'x'; 16 * 1024];

/// Answers `/hit` and `/busy?ms=` with the call's number, `/hang` never, `/endless` without an end, `/fail` with 503,
/// `/garbage` with what is no JSON though it says so.
#[derive(Debug, Clone)]
pub struct Sink {
    pub address: SocketAddr,
    log: PathBuf,
    seen: watch::Receiver<u64>,
    left: Left,
}

/// When each call was over, by its number: answered, or hung up on.
#[derive(Debug, Clone, Default)]
struct Left(Arc<Mutex<HashMap<u64, Timestamp>>>);

/// A call that is inside.
struct Inside {
    call: u64,
    left: Left,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.left.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.call, clock::now());
    }
}

#[derive(Debug, Clone)]
struct Desk {
    counted: Arc<AtomicU64>,
    writer: mpsc::Sender<(Call, oneshot::Sender<()>)>,
    left: Left,
}

#[derive(Debug, Deserialize)]
struct Wish {
    #[serde(default)]
    ms: u64,
}

impl Sink {
    /// Opens one that writes to a file in `directory`.
    pub async fn open(directory: &Path) -> anyhow::Result<Self> {
        let log = directory.join("sink.jsonl");
        let file = File::create(&log).context("make the sink's log")?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("open the sink")?;
        let address = listener.local_addr()?;
        let (writer, waiting) = mpsc::channel(WAITING);
        let (told, seen) = watch::channel(0);
        // Both end with the lab's runtime.
        tokio::task::spawn_blocking(move || write(file, waiting, &told));
        let left = Left::default();
        let desk = Desk { counted: Arc::default(), writer, left: left.clone() };
        let router = Router::new().fallback(any(answer)).with_state(desk);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, log, seen, left })
    }

    /// The calls that are in the log.
    pub fn calls(&self) -> anyhow::Result<Vec<Call>> {
        let text = std::fs::read_to_string(&self.log).context("read the sink's log")?;
        let left = self.left.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.lines()
            .map(|line| {
                let mut call: Call = serde_json::from_str(line).context("read a line of the sink's log")?;
                call.left_at = left.get(&call.call).copied();
                Ok(call)
            })
            .collect()
    }

    /// How many calls were written down.
    pub fn count(&self) -> u64 {
        *self.seen.borrow()
    }

    /// An address of its own.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Writes what waits, flushes it, and lets it be answered; ends when nobody can call any more.
fn write(mut file: File, mut waiting: mpsc::Receiver<(Call, oneshot::Sender<()>)>, told: &watch::Sender<u64>) {
    let mut together = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        together.push(first);
        while let Ok(next) = waiting.try_recv() {
            together.push(next);
        }
        let lines: String = together
            .iter()
            .map(|(call, _)| serde_json::to_string(call).expect("a call is plain JSON") + "\n")
            .collect();
        if let Err(error) = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()) {
            // Nobody is answered from here on, and the fault that is being looked at fails.
            say(&format!("the sink cannot write its log: {error}"));
            return;
        }
        told.send_modify(|count| *count += together.len() as u64);
        for (_, written) in together.drain(..) {
            // A caller that hung up meanwhile is in the log all the same.
            let _ = written.send(());
        }
    }
}

#[expect(clippy::print_stderr, reason = "the lab's own words go where its tables go")]
fn say(text: &str) {
    eprintln!("{text}");
}

async fn answer(State(desk): State<Desk>, method: Method, uri: Uri, wish: Query<Wish>, headers: HeaderMap) -> Response {
    let number = desk.counted.fetch_add(1, Ordering::Relaxed) + 1;
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let path = uri.path().to_owned();
    let _inside = Inside { call: number, left: desk.left.clone() };
    let call =
        Call { call: number, at: clock::now(), left_at: None, method: method.to_string(), path: path.clone(), key };
    let (written, is_written) = oneshot::channel();
    if desk.writer.send((call, written)).await.is_err() || is_written.await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = path.split('/').nth(1).unwrap_or_default();
    match kind {
        "hang" => std::future::pending::<()>().await,
        "busy" => tokio::time::sleep(Duration::from_millis(wish.ms)).await,
        "fail" => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "garbage" => return ([("content-type", "application/json")], "{\"call\": ").into_response(),
        "endless" => {
            let forever = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(CHUNK));
            return Body::from_stream(forever).into_response();
        }
        _ => {}
    }
    axum::Json(json!({ "call": number })).into_response()
}
