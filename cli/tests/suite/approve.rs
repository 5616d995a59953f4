//! `ordinaut approve`: the person of this machine decides.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    action::parking::{ApprovalRequest, OnTimeout},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, Role, Settings, Store,
    approvals::{Approval, NewApproval},
    testing::accepted,
};
use serde_json::json;

use crate::support::programs::CommandLine;

/// What `count` runs of one task ask.
async fn asked(cli: &CommandLine, count: usize) -> (Store, Vec<Approval>) {
    let store = Store::connect(Settings::new(&cli.database.url, Role::Executor)).await.unwrap();
    let local = Caller::local("test");
    let now = store.now().await.unwrap();
    let mut approvals = Vec::new();
    for n in 0..count {
        let title = format!("asks {n}");
        store.insert_task(&local, &accepted(&title, (ScheduleKind::Manual, ""), now), None).await.unwrap();
        let task = store.find_task(&local, &title.as_str().into()).await.unwrap();
        store.run_now(&local, task.id, &title, None).await.unwrap();
        let one = NonZeroU16::MIN;
        let id = uuid::Uuid::now_v7();
        let run = store.claim_runs(id, one, Duration::from_mins(5), i64::MIN).await.unwrap().remove(0);
        let request = ApprovalRequest {
            message: "Send\u{1b}[2J these?".to_owned(),
            data: json!(["a", "b"]),
            timeout: Duration::from_hours(1),
            on_timeout: OnTimeout::Reject,
        };
        let key = format!("{}/ask", run.id);
        let new = NewApproval { agent: run.agent, task: run.task, run: run.id, key, cause_depth: 0, request };
        approvals.push(store.request_approval(&new).await.unwrap());
    }
    (store, approvals)
}

#[tokio::test]
async fn what_waits_is_listed_and_approved_or_rejected_by_its_id_once() {
    let cli = CommandLine::new().await;
    let (_store, approvals) = asked(&cli, 2).await;
    let (first, second) = (approvals[0].id.to_string(), approvals[1].id.to_string());
    let listed = cli.run(&["approve"]).await;
    assert!(listed.stdout.contains(&first) && listed.stdout.contains("1. \"a\""), "{listed:?}");
    assert!(!listed.stdout.contains('\u{1b}'), "{listed:?}");

    let approved = cli.run(&["approve", &first, "--items", "2", "--comment", "only b", "--json"]).await.json();
    assert_eq!((&approved["state"], &approved["approved_items"]), (&json!("approved"), &json!(["b"])));
    assert_eq!((&approved["answered_by"], &approved["comment"]), (&json!("cli"), &json!("only b")));
    let again = cli.run(&["approve", &first, "--reject"]).await;
    assert!(again.code == 2 && again.stderr.contains("first answer counts"), "{again:?}");

    let rejected = cli.run(&["approve", &second, "--reject"]).await;
    assert!(rejected.code == 0 && rejected.stdout.contains("rejected"), "{rejected:?}");
    let none = cli.run(&["approve"]).await;
    assert!(none.stdout.contains("nothing waits"), "{none:?}");
    assert_eq!(cli.run(&["approve", "no-id"]).await.code, 2);
    assert_eq!(cli.run(&["approve", "019ab2c4-5d00-7000-8f1e-2a6b7c8d9e0f"]).await.code, 4);
}

#[tokio::test]
async fn links_are_made_for_who_asks_for_them_and_lead_to_what_waits() {
    let cli = CommandLine::new().await;
    let (store, approvals) = asked(&cli, 1).await;
    assert_eq!(cli.run(&["approve", "--json"]).await.json()[0]["link"], json!(null));
    let listed = cli.run(&["approve", "--links", "--json"]).await.json();
    let link = listed[0]["link"].as_str().unwrap();
    let token = link.strip_prefix("http://127.0.0.1:7447/approvals/").unwrap();
    assert_eq!(store.approval_of_link(token).await.unwrap().map(|it| it.id), Some(approvals[0].id));
}
