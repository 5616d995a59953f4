//! Bare connections, one a client, over which each of the three ways to speak MCP on HTTP goes.

use std::{net::SocketAddr, time::Duration};

use axum::body::{Body, BodyDataStream, to_bytes};
use futures_util::StreamExt as _;
use hyper::{
    Method, Request, Response, StatusCode,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::support::LONG;

/// Nothing here takes so long, with a thousand others beside it and on a loaded machine neither.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2 * LONG.as_secs());

/// What a POST of Streamable HTTP accepts.
const BOTH: (&str, &str) = ("accept", "application/json, text/event-stream");

/// One connection of one client's.
pub(crate) struct Wire {
    sender: SendRequest<Body>,
    token: String,
    _driving: AbortOnDropHandle<()>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        let driving = AbortOnDropHandle::new(tokio::spawn(async move {
            // However it ends, whoever sent something on it is told.
            let _ = connection.await;
        }));
        Self { sender, token: token.to_owned(), _driving: driving }
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Response<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await.unwrap();
        let sending = self.sender.send_request(request.body(Body::from(body)).unwrap());
        timeout(DEADLINE, sending).await.expect("an answer").unwrap().map(Body::new)
    }

    async fn post(&mut self, headers: &[(&str, &str)], message: &Value) -> (StatusCode, String) {
        let headers = [&[BOTH], headers].concat();
        let response = self.send(Method::POST, "/mcp", &headers, message.to_string()).await;
        let status = response.status();
        let body = timeout(DEADLINE, to_bytes(response.into_body(), 1 << 24)).await.expect("a whole answer").unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// The last message in a body, which is JSON or a stream of events.
fn message(body: &str) -> Value {
    let text = body.lines().rev().find_map(|line| line.strip_prefix("data: {").map(|rest| format!("{{{rest}")));
    let text = text.unwrap_or_else(|| body.to_owned());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn about() -> Value {
    json!({"name": "crowd", "version": "1"})
}

fn initialize(revision: &str) -> Value {
    let params = json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": about()});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
}

fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

fn call(tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// A client that speaks one of the three ways.
pub(crate) enum Client {
    /// 2026-07-28: each request says everything.
    Stateless(Wire),
    /// A session of Streamable HTTP, with the stream on which it is told of what it did not ask for.
    Session { wire: Wire, id: String, told: Told },
    /// HTTP+SSE.
    Pair { wire: Wire, path: String, told: Told },
}

/// A stream that stays open.
pub(crate) struct Told {
    stream: BodyDataStream,
    text: String,
    _wire: Wire,
}

impl Told {
    async fn open(address: SocketAddr, token: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut wire = Wire::connect(address, token).await;
        let headers = [&[("accept", "text/event-stream")], headers].concat();
        let response = wire.send(Method::GET, path, &headers, String::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self { stream: response.into_body().into_data_stream(), text: String::new(), _wire: wire }
    }

    /// The first line of data from here on that has `part` in it.
    pub(crate) async fn data(&mut self, part: &str) -> String {
        loop {
            while let Some((line, rest)) = self.text.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(data) = line.strip_prefix("data: ")
                    && data.contains(part)
                {
                    return data.to_owned();
                }
            }
            let chunk = timeout(DEADLINE, self.stream.next()).await.expect("the stream is silent");
            self.text.push_str(std::str::from_utf8(&chunk.expect("the stream goes on").unwrap()).unwrap());
        }
    }
}

impl Client {
    pub(crate) async fn stateless(address: SocketAddr, token: &str) -> Self {
        let mut client = Self::Stateless(Wire::connect(address, token).await);
        let about = client.ask("server/discover", "", json!({})).await;
        assert!(about["result"]["supportedVersions"].is_array(), "{about}");
        client
    }

    pub(crate) async fn session(address: SocketAddr, token: &str) -> Self {
        let mut wire = Wire::connect(address, token).await;
        let headers = [BOTH];
        let response = wire.send(Method::POST, "/mcp", &headers, initialize("2025-06-18").to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let body = timeout(DEADLINE, to_bytes(response.into_body(), 1 << 20)).await.unwrap().unwrap();
        assert!(message(std::str::from_utf8(&body).unwrap())["result"]["serverInfo"].is_object());
        let session = [("mcp-session-id", id.as_str())];
        assert_eq!(wire.post(&session, &initialized()).await.0, StatusCode::ACCEPTED);
        let told = Told::open(address, token, "/mcp", &session).await;
        Self::Session { wire, id, told }
    }

    pub(crate) async fn pair(address: SocketAddr, token: &str) -> Self {
        let mut told = Told::open(address, token, "/sse", &[]).await;
        let path = told.data("/messages?session_id=").await;
        let mut wire = Wire::connect(address, token).await;
        for message in [initialize("2024-11-05"), initialized()] {
            let response = wire.send(Method::POST, &path, &[], message.to_string()).await;
            assert_eq!(response.status(), StatusCode::ACCEPTED);
        }
        told.data("\"id\":1").await;
        Self::Pair { wire, path, told }
    }

    /// The answer to a request of that method; `name` is what it is about.
    pub(crate) async fn ask(&mut self, method: &str, name: &str, params: Value) -> Value {
        let mut request = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        match self {
            Self::Stateless(wire) => {
                request["params"]["_meta"] = json!({
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientInfo": about(),
                    "io.modelcontextprotocol/clientCapabilities": {},
                });
                let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
                if !name.is_empty() {
                    headers.push(("mcp-name", name));
                }
                let (status, body) = wire.post(&headers, &request).await;
                assert_eq!(status, StatusCode::OK, "{body}");
                message(&body)
            }
            Self::Session { wire, id, .. } => {
                let (status, body) = wire.post(&[("mcp-session-id", id)], &request).await;
                assert_eq!(status, StatusCode::OK, "{body}");
                message(&body)
            }
            Self::Pair { wire, path, told } => {
                let response = wire.send(Method::POST, path, &[], request.to_string()).await;
                assert_eq!(response.status(), StatusCode::ACCEPTED);
                serde_json::from_str(&told.data("\"id\":7").await).unwrap()
            }
        }
    }

    /// What a tool answers; a refusal is none.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let params = call(tool, &arguments)["params"].take();
        let mut answer = self.ask("tools/call", tool, params).await;
        assert_ne!(answer["result"]["isError"], true, "{tool}: {answer}");
        assert!(answer["result"]["structuredContent"].is_object(), "{tool}: {answer}");
        answer["result"]["structuredContent"].take()
    }

    /// Leaves as its revision would have it.
    pub(crate) async fn leave(self) {
        if let Self::Session { mut wire, id, told } = self {
            drop(told);
            let ended = wire.send(Method::DELETE, "/mcp", &[("mcp-session-id", &id)], String::new()).await;
            assert_eq!(ended.status(), StatusCode::NO_CONTENT);
        }
    }
}
