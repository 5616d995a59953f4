//! What a user quotes is found: the request's name is in the audit log, and in what an internal error says.

use serde_json::{Value, json};

use crate::{isolation::Site, support::task};

impl Site {
    async fn call(&self, token: &str, session: &str, id: &str, tool: &str, arguments: Value) -> String {
        let params = json!({ "name": tool, "arguments": arguments });
        let message = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
        let request = self
            .http
            .post(&self.url)
            .bearer_auth(token)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .header("mcp-session-id", session)
            .header("x-request-id", id);
        let answered = request.body(message.to_string()).send().await.unwrap();
        assert_eq!(answered.headers()["x-request-id"], id);
        answered.text().await.unwrap()
    }
}

#[tokio::test]
async fn a_write_is_audited_under_its_requests_name_and_a_fault_says_it() {
    let site = Site::start().await;
    let (_, token) = site.add("ann", &["task:read", "task:write"]).await;
    let session = site.session(&token).await;
    let answer = site.call(&token, &session, "quote-1", "create_task", task("Quoted", json!({}))).await;
    assert!(answer.contains("created"), "{answer}");
    let audited = "select http_request_id from audit_log where verb = 'create_task'";
    assert_eq!(site.database.rows(audited).await.unwrap(), [json!({ "http_request_id": "quote-1" })]);
    // Who made the agent was in no request.
    let made = "select http_request_id from audit_log where verb = 'add_agent'";
    assert_eq!(site.database.rows(made).await.unwrap(), [json!({ "http_request_id": null })]);

    site.database.run_sql("alter table task rename to mislaid").await.unwrap();
    let fault = site.call(&token, &session, "quote-2", "list_tasks", json!({})).await;
    assert!(fault.contains("the cause is in its log, at request quote-2"), "{fault}");
}
