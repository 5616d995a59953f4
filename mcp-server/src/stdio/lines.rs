//! Messages as lines: what is read is bounded, what is no message is answered, what is not taken stops the reading.
//!
//! The SDK's own transport for pipes reads on while nobody takes the answers, and says nothing to a line that is no
//! message. Here a line is read only while there is room for an answer, and so many calls are in hand at most: a
//! client that only writes is made to wait by its own pipe. Every wait of [`Lines::receive`] may be given up and begun
//! again, as the SDK does with it.

use std::{io, sync::Arc, time::Duration};

use rmcp::{
    ErrorData, RoleServer,
    model::{ClientJsonRpcMessage, ErrorCode, RequestId, ServerJsonRpcMessage},
    transport::Transport,
};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::debug;

/// Calls in hand at once; a chat has a few.
const CALLS: usize = 64;
/// How long one more waits for one of them to end.
const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// Answers that wait for the client to read.
const QUEUE: usize = 16;
/// How long the last answers may take to be read.
const FAREWELL: Duration = Duration::from_secs(2);

/// One client on a pair of pipes.
pub(super) struct Lines<R> {
    read: BufReader<R>,
    longest: usize,
    line: Vec<u8>,
    /// The rest of a line that is too long is on its way.
    is_skipping: bool,
    /// A call that came while too many were in hand.
    late: Option<Late>,
    calls: Arc<Semaphore>,
    outbox: Option<mpsc::Sender<Vec<u8>>>,
    /// The client does not take anything any more.
    gone: CancellationToken,
    writing: AbortOnDropHandle<()>,
}

struct Late {
    call: ClientJsonRpcMessage,
    until: Instant,
}

/// A call's place among [`CALLS`], which ends with its context.
#[derive(Debug, Clone)]
struct InHand {
    _place: Arc<OwnedSemaphorePermit>,
}

/// What became of a line.
enum Read {
    Line,
    TooLong,
}

/// Why a line is no message.
#[derive(Debug)]
enum Malformed {
    NotJson(serde_json::Error),
    /// JSON, with an id that can be read or without.
    NotAMessage(Option<RequestId>),
    /// A notification of no revision's: nobody waits for an answer.
    UnknownNotification,
}

/// The client is gone.
#[derive(Debug, thiserror::Error)]
#[error("the client reads no more")]
pub(super) struct Gone;

impl<R: AsyncRead + Send + Unpin> Lines<R> {
    /// `longest` is the longest line that is read, its end included.
    pub(super) fn new(read: R, write: impl AsyncWrite + Send + Unpin + 'static, longest: usize) -> Self {
        let (outbox, lines) = mpsc::channel(QUEUE);
        let gone = CancellationToken::new();
        let writing = AbortOnDropHandle::new(tokio::spawn(write_all(write, lines, gone.clone())));
        Self {
            read: BufReader::new(read),
            longest,
            line: Vec::new(),
            is_skipping: false,
            late: None,
            calls: Arc::new(Semaphore::new(CALLS)),
            outbox: Some(outbox),
            gone,
            writing,
        }
    }

    /// The next message, `None` at the end of either pipe.
    async fn next(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            // Taken before anything is read: whatever comes can be answered, or is not read.
            let room = self.outbox.clone()?.reserve_owned().await.ok()?;
            if let Some(late) = &self.late {
                let place = timeout_at(late.until, self.calls.clone().acquire_owned()).await;
                let call = self.late.take()?.call;
                match place {
                    Ok(place) => return Some(in_hand(call, place.ok()?)),
                    Err(_elapsed) => drop(room.send(line(&too_many(call)))),
                }
                continue;
            }
            let answer = match self.read_line().await? {
                Read::TooLong => {
                    let text = format!("the line is longer than {} bytes; it was not read", self.longest);
                    ServerJsonRpcMessage::error(ErrorData::invalid_request(text, None), None)
                }
                Read::Line => {
                    let message = parse(&self.line);
                    self.line.clear();
                    match message {
                        Ok(call @ ClientJsonRpcMessage::Request(_)) => {
                            self.late = Some(Late { call, until: Instant::now() + CALL_PATIENCE });
                            continue;
                        }
                        Ok(message) => return Some(message),
                        Err(why) => match answer(why) {
                            Some(answer) => answer,
                            None => continue,
                        },
                    }
                }
            };
            room.send(line(&answer));
        }
    }

    /// Reads up to the end of a line; what was read before this was given up is kept.
    async fn read_line(&mut self) -> Option<Read> {
        loop {
            let available = self
                .read
                .fill_buf()
                .await
                .inspect_err(|error| debug!(error = error as &dyn std::error::Error, "stdin cannot be read"))
                .ok()?;
            if available.is_empty() {
                return None;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            let fits = self.line.len() + taken <= self.longest;
            let begins_to_skip = !self.is_skipping && !fits;
            if self.is_skipping || begins_to_skip {
                self.line = Vec::new();
                self.is_skipping = end.is_none();
            } else {
                self.line.extend_from_slice(&available[..taken]);
            }
            self.read.consume(taken);
            if begins_to_skip {
                return Some(Read::TooLong);
            }
            if end.is_some() && self.line.last() == Some(&b'\n') {
                return Some(Read::Line);
            }
        }
    }
}

impl<R: AsyncRead + Send + Unpin + 'static> Transport<RoleServer> for Lines<R> {
    type Error = Gone;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = Result<(), Gone>> + Send + 'static {
        let outbox = self.outbox.clone();
        async move { outbox.ok_or(Gone)?.send(line(&message)).await.map_err(|_| Gone) }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let gone = self.gone.clone();
        gone.run_until_cancelled(self.next()).await.flatten()
    }

    async fn close(&mut self) -> Result<(), Gone> {
        self.outbox = None;
        timeout(FAREWELL, &mut self.writing).await.map_err(|_elapsed| Gone)?.map_err(|_panic| Gone)
    }
}

async fn write_all(
    mut write: impl AsyncWrite + Send + Unpin,
    mut lines: mpsc::Receiver<Vec<u8>>,
    gone: CancellationToken,
) {
    let _ends = gone.drop_guard();
    while let Some(line) = lines.recv().await {
        let written = async {
            write.write_all(&line).await?;
            write.flush().await
        };
        if let Err(error) = written.await {
            let error: &io::Error = &error;
            debug!(error = error as &dyn std::error::Error, "the client reads no more");
            return;
        }
    }
}

fn line(message: &ServerJsonRpcMessage) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("a JSON-RPC message has string keys");
    line.push(b'\n');
    line
}

fn in_hand(mut call: ClientJsonRpcMessage, place: OwnedSemaphorePermit) -> ClientJsonRpcMessage {
    call.insert_extension(InHand { _place: Arc::new(place) });
    call
}

fn too_many(call: ClientJsonRpcMessage) -> ServerJsonRpcMessage {
    let id = if let ClientJsonRpcMessage::Request(request) = call { Some(request.id) } else { None };
    let text = format!("{CALLS} calls are in hand; nothing was done, wait for some of them to end");
    ServerJsonRpcMessage::error(ErrorData::new(ErrorCode(-32000), text, None), id)
}

fn parse(line: &[u8]) -> Result<ClientJsonRpcMessage, Malformed> {
    let text = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    if text.trim_ascii().is_empty() {
        return Err(Malformed::UnknownNotification);
    }
    serde_json::from_slice(text).map_err(|_| why(text))
}

/// Looked at once more: of what is no message, the SDK's own types do not say what is wrong.
fn why(text: &[u8]) -> Malformed {
    let value: Value = match serde_json::from_slice(text) {
        Ok(value) => value,
        Err(error) => return Malformed::NotJson(error),
    };
    match value.get("id") {
        None if value.get("method").is_some_and(Value::is_string) => Malformed::UnknownNotification,
        None => Malformed::NotAMessage(None),
        Some(id) => Malformed::NotAMessage(RequestId::deserialize(id).ok()),
    }
}

/// What the protocol says to it.
fn answer(why: Malformed) -> Option<ServerJsonRpcMessage> {
    debug!(?why, "a line is no message");
    let (error, id) = match why {
        Malformed::UnknownNotification => return None,
        Malformed::NotJson(error) => {
            (ErrorData::parse_error(format!("the line is not one JSON value: {error}"), None), None)
        }
        Malformed::NotAMessage(id) => {
            (ErrorData::invalid_request("the line is JSON, and not one JSON-RPC 2.0 message of MCP's", None), id)
        }
    };
    Some(ServerJsonRpcMessage::error(error, id))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::*;

    const PIPE: usize = 1 << 16;

    fn pipes() -> (Lines<DuplexStream>, DuplexStream, DuplexStream) {
        let ((far_in, near_in), (near_out, far_out)) = (duplex(PIPE), duplex(PIPE));
        (Lines::new(near_in, near_out, 1024), far_in, far_out)
    }

    async fn ask(client: &mut DuplexStream, ids: std::ops::Range<usize>) {
        for id in ids {
            let ping = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"ping\"}}\n");
            client.write_all(ping.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_past_the_most_in_hand_waits_and_is_refused_or_takes_the_place_of_one_that_ended() {
        let (mut lines, mut client, mut answers) = pipes();
        ask(&mut client, 0..CALLS + 2).await;
        let mut in_hand = Vec::new();
        for _ in 0..CALLS {
            in_hand.push(lines.receive().await.unwrap());
        }
        // The first past the most is refused when its time is over; the second begins to wait.
        assert!(timeout(CALL_PATIENCE * 3 / 2, lines.receive()).await.is_err());
        let mut refusal = vec![0; 1024];
        let read = answers.read(&mut refusal).await.unwrap();
        let refusal: Value = serde_json::from_slice(&refusal[..read]).unwrap();
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&CALLS.into(), &(-32000).into()), "{refusal}");
        in_hand.pop();
        let Some(ClientJsonRpcMessage::Request(late)) = lines.receive().await else { panic!("a call") };
        assert_eq!(late.id.to_string(), (CALLS + 1).to_string());
    }

    #[tokio::test]
    async fn nothing_is_read_while_answers_are_not_taken() {
        let (mut lines, mut client, mut answers) = pipes();
        let answer = || ServerJsonRpcMessage::error(ErrorData::internal_error("x".repeat(PIPE), None), None);
        let mut sending = tokio::task::JoinSet::new();
        // One is being written, the queue is full, and one waits.
        for _ in 0..QUEUE + 2 {
            sending.spawn(lines.send(answer()));
        }
        while sending.len() > 1 {
            sending.join_next().await.unwrap().unwrap().unwrap();
        }
        ask(&mut client, 0..1).await;
        for _ in 0..100 {
            assert!(lines.receive().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        tokio::spawn(async move { answers.read_to_end(&mut Vec::new()).await });
        assert!(matches!(lines.receive().await, Some(ClientJsonRpcMessage::Request(_))));
    }

    #[tokio::test]
    async fn what_was_sent_is_written_before_the_end() {
        let (mut lines, _client, mut answers) = pipes();
        for _ in 0..QUEUE {
            let answer = ServerJsonRpcMessage::error(ErrorData::internal_error("x", None), None);
            lines.send(answer).await.unwrap();
        }
        lines.close().await.unwrap();
        let mut text = String::new();
        answers.read_to_string(&mut text).await.unwrap();
        assert_eq!(text.lines().count(), QUEUE);
    }
}
