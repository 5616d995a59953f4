//! Approvals: who decides over MCP, through the form of the client, and on the page behind a link.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::action::parking::{ApprovalRequest, ApprovalState, OnTimeout};
use ordinaut_store::{
    Caller,
    approvals::{Approval, Authority, Decision, NewApproval},
    testing::Fixture,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    isolation::Site,
    person::{WITH_FORMS, through_the_form},
    support::{Chat, call},
};

/// What a run of the local agent asks.
pub(crate) async fn asked(store: &Fixture, data: Value) -> Approval {
    let now = store.executor.now().await.unwrap();
    let accepted =
        ordinaut_store::testing::accepted("Asks <b>", (ordinaut_schema::schedule::ScheduleKind::Manual, ""), now);
    let local = Caller::local("test");
    store.mcp.insert_task(&local, &accepted, None).await.unwrap();
    let task = store.mcp.find_task(&local, &"Asks <b>".into()).await.unwrap();
    store.mcp.run_now(&local, task.id, "x", None).await.unwrap();
    let lease = Duration::from_mins(5);
    let run = store.executor.claim_runs(Uuid::now_v7(), NonZeroU16::MIN, lease, i64::MIN).await.unwrap().remove(0);
    let request = ApprovalRequest {
        message: "Send \"these\"?".to_owned(),
        data,
        timeout: Duration::from_hours(1),
        on_timeout: OnTimeout::Reject,
    };
    let key = format!("{}/ask", run.id);
    let new = NewApproval { agent: run.agent, task: run.task, run: run.id, key, cause_depth: 0, request };
    store.executor.request_approval(&new).await.unwrap()
}

async fn state(store: &Fixture, approval: &Approval) -> ApprovalState {
    store.mcp.find_approval(&Caller::local("test"), approval.id).await.unwrap().state
}

#[tokio::test]
async fn an_approval_is_new_until_it_is_decided_though_its_message_was_read() {
    let chat = Chat::start().await;
    let approval = asked(&chat.store, json!(["a"])).await;
    let first = chat.ok("check_inbox", json!({})).await;
    assert_eq!(first["messages"].as_array().unwrap().len(), 1);
    let read = chat.call("check_inbox", json!({ "ack_through": first["ack_through"] })).await;
    assert_eq!(read.content["messages"], json!([]));
    assert_eq!(read.content["approvals"][0]["id"], json!(approval.id));
    assert!(read.text.contains("Approvals that wait for a person"), "{}", read.text);

    let yes = Decision { approve: true, comment: None, items: None, shown_sha256: approval.shown_sha256.clone() };
    let person = Caller::local("cli");
    chat.store.executor.answer_approval(&person, Authority::Person, approval.id, &yes).await.unwrap();
    assert_eq!(chat.ok("check_inbox", json!({})).await["approvals"], json!([]));
}

#[tokio::test]
async fn a_model_cannot_approve_its_own_request_by_any_tool_it_has() {
    let chat = Chat::start().await;
    let approval = asked(&chat.store, json!(["a"])).await;
    let listed = chat.ok("answer_approval", json!({})).await;
    let sha = listed["approvals"][0]["shown_sha256"].clone();
    assert_eq!(
        (&listed["approvals"][0]["id"], &listed["approvals"][0]["you_decide"]),
        (&json!(approval.id), &json!(false))
    );
    let answer =
        json!({ "approval": approval.id, "decision": "approve", "items": [1], "comment": "ok", "shown_sha256": sha });
    let refused = chat.refused("answer_approval", answer).await;
    assert_eq!(refused.code(), "person_decides");
    assert!(refused.text.contains("ordinaut approve"), "{}", refused.text);

    // Everything else it has, aimed at the run and its task: nothing makes an answer, and nothing shows a link.
    let token = chat.store.executor.link_approval(approval.id).await.unwrap();
    let mut said = String::new();
    for (tool, arguments) in [
        ("get_run", json!({ "run": approval.run })),
        ("list_runs", json!({})),
        ("get_task", json!({ "task": approval.task })),
        ("list_tasks", json!({})),
        ("list_actions", json!({ "topic": "guide" })),
        ("check_inbox", json!({})),
        ("publish_event", json!({ "topic": "approval.answered", "payload": { "approval_id": approval.id } })),
        ("update_task", json!({ "task": approval.task, "changes": { "priority": 1 } })),
        ("run_now", json!({ "task": approval.task })),
        ("retry_run", json!({ "run": approval.run })),
        ("pause", json!({ "task": approval.task })),
        ("resume", json!({ "task": approval.task })),
        ("answer_approval", json!({ "approval": approval.id })),
    ] {
        let called = chat.call(tool, arguments).await;
        said.push_str(&called.text);
        said.push_str(&called.content.to_string());
        assert_eq!(state(&chat.store, &approval).await, ApprovalState::Waiting, "{tool}");
    }
    assert!(
        said.contains(&approval.id.to_string()) && !said.contains(&token) && !said.contains("/approvals/"),
        "{said}"
    );
    // Ending the run is its right; that is no approval.
    chat.ok("cancel", json!({ "task": approval.task })).await;
    assert_ne!(state(&chat.store, &approval).await, ApprovalState::Approved);
}

#[tokio::test]
async fn the_clients_form_collects_the_persons_answer_whatever_the_model_says() {
    for revision in &WITH_FORMS {
        let chat = Chat::start().await;
        let approval = asked(&chat.store, json!({ "from": "me", "items": ["a", "b\u{202e}"] })).await;
        let lies = json!({ "approval": approval.id, "decision": "approve", "items": [1, 2] });
        let asked = async |answer, arguments| {
            through_the_form(&chat.server, revision, [answer], "answer_approval", arguments).await
        };
        let (closed, shown) = asked(None, lies.clone()).await;
        let shown: Vec<_> = shown.into_iter().map(|form| form.message).collect();
        assert_eq!(closed.code(), "not_decided", "{}", closed.text);
        assert!(
            shown[0].contains("1. \"a\"") && shown[0].contains("from: \"me\"") && shown[0].contains("\\u{202e}"),
            "{shown:?}"
        );
        assert_eq!(state(&chat.store, &approval).await, ApprovalState::Waiting);

        let filled = json!({ "decision": "approve", "items": "2", "comment": "only Bob" });
        let (answered, _) = asked(Some(filled), lies).await;
        assert_eq!(answered.content["outcome"], "approved", "{}", answered.text);
        let kept = chat.store.mcp.find_approval(&Caller::local("test"), approval.id).await.unwrap();
        assert_eq!((&kept.approved_items, kept.comment.as_deref()), (&json!(["b\u{202e}"]), Some("only Bob")));
        assert!(kept.answered_by.unwrap().contains("a person"));
    }
}

#[tokio::test]
async fn a_principal_of_another_agent_decides_with_the_scope_and_without_it_sees_nothing() {
    let site = Site::start().await;
    let approval = asked(&site.store, json!(["a", "b"])).await;
    let phone = site.agent("phone", &["approval:answer"]).await;
    let nosy = site.agent("nosy", &["task:read", "task:write", "run:control"]).await;
    let blind = site.agent("blind", &["event:publish"]).await;

    assert_eq!(call(&nosy, "answer_approval", json!({})).await.content["approvals"], json!([]));
    let hidden = call(&nosy, "answer_approval", json!({ "approval": approval.id })).await;
    assert_eq!(hidden.code(), "approval_not_found", "{}", hidden.text);
    assert_eq!(call(&blind, "answer_approval", json!({})).await.code(), "not_permitted");

    let listed = call(&phone, "answer_approval", json!({})).await;
    let entry = &listed.content["approvals"][0];
    assert_eq!((&entry["you_decide"], &entry["agent"]), (&json!(true), &json!("local")), "{}", listed.text);
    let incomplete = call(&phone, "answer_approval", json!({ "approval": approval.id, "decision": "approve" })).await;
    assert_eq!(incomplete.code(), "answer_incomplete");
    let mut answer = json!({ "approval": approval.id, "decision": "approve", "items": [2], "shown_sha256": "00" });
    assert_eq!(call(&phone, "answer_approval", answer.clone()).await.code(), "approval_refused");
    answer["shown_sha256"] = entry["shown_sha256"].clone();
    let answered = call(&phone, "answer_approval", answer).await;
    assert_eq!(
        (&answered.content["outcome"], &answered.content["by"]),
        (&json!("approved"), &json!("phone/first")),
        "{}",
        answered.text
    );
    site.end([phone, nosy, blind]).await;
}

#[tokio::test]
async fn a_link_shows_what_is_asked_and_only_its_form_decides_and_only_once() {
    let site = Site::start().await;
    let approval = asked(&site.store, json!(["<script>x</script>", "b"])).await;
    let token = site.store.executor.link_approval(approval.id).await.unwrap();
    let base = site.url.trim_end_matches("/mcp");
    let link = format!("{base}/approvals/{token}");
    let post = async |form: &str, origin: Option<&str>| {
        let mut request = site.http.post(&link).body(form.to_owned());
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send().await.unwrap().status().as_u16()
    };

    for _ in 0..3 {
        let page = site.http.get(&link).send().await.unwrap();
        assert_eq!(page.status(), 200);
        let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(header("cache-control"), "no-store");
        let text = page.text().await.unwrap();
        assert!(text.contains("&lt;script&gt;x&lt;/script&gt;") && text.contains("Asks &lt;b&gt;"), "{text}");
        assert!(!text.contains("<script") && text.contains(&approval.shown_sha256), "{text}");
    }
    assert_eq!(state(&site.store, &approval).await, ApprovalState::Waiting, "looking decides nothing");

    let shown = &approval.shown_sha256;
    let yes = format!("decision=approve&item=2&comment=fine&shown_sha256={shown}");
    assert_eq!(post(&yes, Some("https://evil.example")).await, 403);
    assert_eq!(post(&format!("decision=approve&shown_sha256={shown}"), None).await, 400, "no item is chosen");
    assert_eq!(post("decision=approve&item=2&shown_sha256=00", None).await, 409);
    assert_eq!(state(&site.store, &approval).await, ApprovalState::Waiting);
    assert_eq!(site.http.get(format!("{base}/approvals/{}", "0".repeat(64))).send().await.unwrap().status(), 404);

    assert_eq!(post(&yes, Some(base)).await, 200);
    let kept = site.store.mcp.find_approval(&Caller::local("test"), approval.id).await.unwrap();
    assert_eq!((kept.state, &kept.approved_items), (ApprovalState::Approved, &json!(["b"])));
    assert_eq!((kept.answered_by.as_deref(), kept.comment.as_deref()), (Some("link"), Some("fine")));
    assert_eq!(post(&format!("decision=reject&shown_sha256={shown}"), None).await, 409, "once");
    let after = site.http.get(&link).send().await.unwrap().text().await.unwrap();
    assert!(after.contains("Approved by link") && !after.contains("<form"), "{after}");
    site.end([]).await;
}
