//! Every tool against every scope, and against every id that is another agent's.
//!
//! Both go over the whole of `tools/list`: a tool that is added and not written down here fails them.

use std::collections::{BTreeMap, BTreeSet};

use ordinaut_store::{Caller, testing::Fixture};
use rmcp::{RoleClient, model::ReadResourceRequestParams, service::RunningService};
use serde_json::{Value, json};

use crate::{
    approvals::asked,
    isolation::Site,
    support::{call, task},
};

pub(crate) const SCOPES: [&str; 6] =
    ["task:read", "task:write", "run:control", "event:publish", "approval:answer", "admin"];

/// A run that never was; its last digit alone differs from nothing in particular.
const NO_RUN: &str = "019ab2c4-5d00-8000-8f1e-2a6b7c8d9e0f";

/// Each tool, the scopes of which any one admits (the first is named by the refusal), and arguments that it accepts.
pub(crate) fn tools() -> Vec<(&'static str, &'static [&'static str], Value)> {
    let (read, write, control) = (&["task:read"][..], &["task:write"][..], &["run:control"][..]);
    let named = || json!({ "task": "no such task" });
    let run = || json!({ "run": NO_RUN });
    vec![
        // Without `approval:answer` it shows what the agent's own tasks ask, and decides nothing.
        ("answer_approval", &["approval:answer", "task:read"], json!({})),
        ("cancel", write, named()),
        ("cancel_run", control, run()),
        ("check_inbox", read, json!({})),
        ("create_task", write, task("Made by whoever may", json!({ "timezone": "UTC" }))),
        ("get_run", read, run()),
        ("get_task", read, named()),
        ("list_actions", read, json!({})),
        ("list_runs", read, json!({})),
        ("list_tasks", read, json!({})),
        ("pause", write, named()),
        ("preview_schedule", read, json!({ "schedule_kind": "interval", "schedule_expr": "1h" })),
        ("publish_event", &["event:publish"], json!({ "topic": "a.b" })),
        ("resume", write, named()),
        ("retry_run", control, run()),
        ("run_now", control, named()),
        ("snooze", write, json!({ "task": "no such task", "skip": 1 })),
        ("update_task", write, json!({ "task": "no such task", "changes": { "priority": 1 } })),
    ]
}

/// What an argument that names something may hold: the other agent's own, and the like of it that never was.
struct Foreign {
    argument: &'static str,
    theirs: String,
    never: String,
    code: &'static str,
}

async fn foreign(store: &Fixture) -> Vec<Foreign> {
    let approval = asked(store, json!(["a"])).await;
    let local = Caller::local("test");
    let run = store.mcp.find_run(&local, approval.run).await.unwrap();
    let id = |argument, theirs: String, code| {
        let last = if theirs.ends_with('0') { "1" } else { "0" };
        let never = format!("{}{last}", &theirs[..theirs.len() - 1]);
        Foreign { argument, theirs, never, code }
    };
    vec![
        id("task", run.task.to_string(), "task_not_found"),
        Foreign {
            argument: "task",
            theirs: run.task_title.clone(),
            never: "Never was".to_owned(),
            code: "task_not_found",
        },
        id("run", run.id.to_string(), "run_not_found"),
        id("approval", approval.id.to_string(), "approval_not_found"),
    ]
}

/// What a call answers, with the name of what it was about and the clock taken out.
async fn answer(client: &RunningService<RoleClient, ()>, tool: &str, arguments: Value, about: &str) -> (Value, String) {
    let called = call(client, tool, arguments).await;
    let now = called.content["now"].as_str().unwrap_or_else(|| panic!("{tool}: {}", called.text)).to_owned();
    let text = called.text.replace(about, "…").replace(&now, "now");
    let whole = called.content.to_string().replace(about, "…").replace(&now, "now");
    (called.content["code"].clone(), format!("{text}\n{whole}\n{}", called.refused))
}

#[tokio::test]
async fn each_tool_answers_the_scopes_it_names_and_refuses_every_other_by_name() {
    let site = Site::start().await;
    let all = site.agent("all", &SCOPES).await;
    let listed: BTreeSet<_> = all.list_all_tools().await.unwrap().iter().map(|tool| tool.name.to_string()).collect();
    let known: BTreeSet<_> = tools().iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(listed, known, "each tool has its row above");

    let mut clients = vec![all];
    for scope in SCOPES {
        let client = site.agent(&format!("only {scope}"), &[scope]).await;
        for (tool, admitting, arguments) in tools() {
            let called = call(&client, tool, arguments).await;
            if admitting.contains(&scope) {
                assert_ne!(called.code(), "not_permitted", "{tool} with {scope}: {}", called.text);
                // It got so far as to be judged by what it says.
                assert!(!called.refused || called.code().ends_with("_not_found"), "{tool}: {}", called.text);
            } else {
                assert_eq!(called.code(), "not_permitted", "{tool} with {scope}: {}", called.text);
                assert!(called.text.contains(&format!("`{}`", admitting[0])), "{tool}: {}", called.text);
            }
        }
        clients.push(client);
    }
    site.end(clients).await;
}

#[tokio::test]
async fn a_foreign_id_is_answered_as_one_that_never_was_by_every_tool() {
    let site = Site::start().await;
    let bob = site.agent("bob", &["task:read", "task:write", "run:control", "event:publish"]).await;
    let foreign = foreign(&site.store).await;
    let mut arguments: BTreeMap<_, _> = tools().into_iter().map(|(name, _, arguments)| (name, arguments)).collect();
    let before = site.store.rows().await;

    let mut asked_about = BTreeSet::new();
    for tool in bob.list_all_tools().await.unwrap() {
        for (name, field) in tool.input_schema["properties"].as_object().unwrap() {
            let about = field["description"].as_str().unwrap();
            let known = foreign.iter().any(|it| it.argument == name);
            assert!(known || !about.contains("'s id"), "{}.{name} names something of an agent's: {about}", tool.name);
            for Foreign { theirs, never, code, .. } in foreign.iter().filter(|it| it.argument == name) {
                let arguments = arguments.get_mut(&*tool.name).expect("each tool has its row above");
                arguments[name] = json!(theirs);
                let (found, at_theirs) = answer(&bob, &tool.name, arguments.clone(), theirs).await;
                assert_eq!(found, *code, "{}: {at_theirs}", tool.name);
                arguments[name] = json!(never);
                let (_, at_never) = answer(&bob, &tool.name, arguments.clone(), never).await;
                assert_eq!(at_theirs, at_never, "{}", tool.name);
                asked_about.insert((tool.name.to_string(), name.clone()));
            }
        }
    }
    assert!(asked_about.len() >= 12, "{asked_about:?}");
    for Foreign { argument, theirs, never, .. } in foreign.iter().filter(|it| it.argument != "approval") {
        let read = async |id: &str| {
            let uri = format!("ordinaut://{argument}s/{}", id.replace([' ', '<', '>'], "-"));
            let refused = bob.read_resource(ReadResourceRequestParams::new(uri.clone())).await.unwrap_err();
            refused.to_string().replace(&uri, "…").replace(id, "…")
        };
        assert_eq!(read(theirs).await, read(never).await);
    }
    let after = site.store.rows().await;
    for (table, rows) in &before {
        assert_eq!(rows, &after[table], "{table}");
    }
    site.end([bob]).await;
}
