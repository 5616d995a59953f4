//! What a token keeps open is as good as the token: revoked or expired, its streams and sessions end, and no other's do.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use jiff::SignedDuration;
use reqwest::{Response, StatusCode};
use rmcp::{
    model::{ProtocolVersion, SubscriptionFilter},
    service::{ClientLifecycleMode, serve_client_with_lifecycle},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{isolation::Site, support::PATIENCE};

impl Site {
    fn sse(&self) -> String {
        self.url.replace("/mcp", "/sse")
    }

    async fn stream(&self, url: &str, token: &str, session: Option<&str>) -> Response {
        let mut request = self.http.get(url).bearer_auth(token).header("accept", "text/event-stream");
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response
    }

    pub(crate) async fn post(&self, token: &str, session: Option<&str>, message: Value) -> Response {
        let mut request = self
            .http
            .post(&self.url)
            .bearer_auth(token)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json");
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        request.body(message.to_string()).send().await.unwrap()
    }

    /// Opens a session, with bare requests.
    pub(crate) async fn session(&self, token: &str) -> String {
        let client = json!({ "name": "test", "version": "1" });
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
        let opened = self.post(token, None, message).await;
        let session = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert_eq!(self.post(token, Some(&session), initialized).await.status(), StatusCode::ACCEPTED);
        session
    }

    /// How many sessions are open, when it is as many as that.
    async fn until_sessions(&self, wanted: usize) {
        let wanted = format!("ordinaut_mcp_sessions {wanted}\n");
        let url = self.url.replace("/mcp", "/metrics");
        let waiting = async {
            while !self.http.get(&url).send().await.unwrap().text().await.unwrap().contains(&wanted) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not seen: {wanted}"));
    }
}

/// Reads to the end, which comes.
async fn ends(what: &str, mut stream: impl Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin) {
    let reading = async { while let Some(Ok(_)) = stream.next().await {} };
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{what} goes on"));
}

#[tokio::test]
async fn a_revoked_agents_streams_and_sessions_end_and_nobody_elses() {
    let site = Site::start().await;
    let (_, anns) = site.add("ann", &["task:read"]).await;
    let (_, bobs) = site.add("bob", &["task:read"]).await;

    let session = site.session(&anns).await;
    let sse = site.stream(&site.sse(), &anns, None).await.bytes_stream();
    let standalone = site.stream(&site.url, &anns, Some(&session)).await.bytes_stream();
    // One that nobody listens on, which holds no stream open.
    let _quiet = site.session(&anns).await;
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let listener = serve_client_with_lifecycle((), site.transport(anns.clone()), newest).await.unwrap();
    let filter = SubscriptionFilter::builder().resources_list_changed().build();
    let mut listening = listener.peer().listen(filter).await.unwrap();
    let mut bobs_sse = site.stream(&site.sse(), &bobs, None).await.bytes_stream();
    let bobs_session = site.session(&bobs).await;

    site.store.executor.revoke_agent("ann").await.unwrap();
    ends("HTTP+SSE", sse).await;
    ends("the standalone stream", standalone).await;
    let heard = async { while let Ok(Some(_)) = listening.next().await {} };
    timeout(PATIENCE, heard).await.expect("subscriptions/listen ends");
    // Bob's stream and his session.
    site.until_sessions(2).await;
    let ping = json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" });
    assert_eq!(site.post(&anns, Some(&session), ping.clone()).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(site.post(&bobs, Some(&bobs_session), ping).await.status(), StatusCode::OK);
    assert!(bobs_sse.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn what_one_token_opened_ends_with_it_and_not_with_the_agents_other() {
    let site = Site::start().await;
    let (_, lasting) = site.add("ann", &["task:read"]).await;
    let store = &site.store.executor;
    let soon = store.now().await.unwrap() + SignedDuration::from_secs(2);
    let passing = store.add_token("ann", "passing", &["task:read".to_owned()], Some(soon)).await.unwrap().text;
    let opened = site.session(&passing).await;
    let passing_sse = site.stream(&site.sse(), &passing, None).await.bytes_stream();
    let kept = site.session(&lasting).await;

    ends("the stream of a token that expired", passing_sse).await;
    site.until_sessions(1).await;
    let ping = json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" });
    assert_eq!(site.post(&lasting, Some(&opened), ping.clone()).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(site.post(&lasting, Some(&kept), ping).await.status(), StatusCode::OK);
}
