//! A session over HTTP (2025-11-25), which reads what is needed and no more.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_mins(1);
const AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct Session {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
    /// As the server calls it.
    name: Option<String>,
    id: u64,
}

/// What `initialize` is asked with.
pub(super) fn hello() -> Value {
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": { "name": "ordinaut-bench", "version": "1" },
    })
}

impl Session {
    /// Begins one, as soon as the server is there.
    pub(crate) async fn begin(url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        // No connection here is encrypted, but a client will not be made without; set once a process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().context("a client")?;
        let mut begun = Self { client, url: url.to_owned(), token: token.map(str::to_owned), name: None, id: 0 };
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = begun.request("initialize", &hello()).await {
            if Instant::now() > deadline {
                return Err(error);
            }
            sleep(AGAIN).await;
        }
        begun.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        Ok(begun)
    }

    pub(crate) async fn call(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<()> {
        let answer = self.request("tools/call", &json!({ "name": tool, "arguments": arguments })).await?;
        if answer.contains("\"result\"") && !answer.contains("\"isError\":true") {
            Ok(())
        } else {
            bail!("{tool}: {answer}")
        }
    }

    async fn request(&mut self, method: &str, params: &Value) -> anyhow::Result<String> {
        self.id += 1;
        self.post(&json!({ "jsonrpc": "2.0", "id": self.id, "method": method, "params": params })).await
    }

    /// The whole body, whichever of both kinds it is: one that carries one answer ends with it.
    async fn post(&mut self, message: &Value) -> anyhow::Result<String> {
        let mut request = self
            .client
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .header("mcp-protocol-version", "2025-11-25")
            .body(message.to_string());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(name) = &self.name {
            request = request.header("mcp-session-id", name);
        }
        let response = request.send().await?.error_for_status()?;
        if let Some(name) = response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()) {
            self.name = Some(name.to_owned());
        }
        Ok(response.text().await?)
    }
}
