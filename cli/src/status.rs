//! `status`: what runs, what is due next, and what stands in the way. Starts nothing.

use ordinaut_schema::{run::RunState, task::TaskState};
use ordinaut_store::{
    embedded::{self, SetState},
    runs::RunFilter,
    tasks::TaskFilter,
};
use serde_json::json;

use crate::{
    config::{Config, redacted},
    failure::Failure,
    out::{Out, clean},
    session::Session,
    times::{local, relative},
};

const LIVE: [RunState; 4] = [RunState::Blocked, RunState::Waiting, RunState::Pending, RunState::Running];
/// Counted to here, then said to be more.
const MOST_COUNTED: u32 = 1000;

pub(crate) async fn status(config: &Config, agent: Option<&str>, out: Out) -> Result<(), Failure> {
    let session = Session::open_running(config, agent).await?;
    let set = embedded::current(&config.layout).filter(|_| config.database_url.is_none());
    let Session { store, caller, zone, .. } = &session;
    let now = store.now().await?;
    let executors = store.live_executors().await?;
    let gate = store.gate_shut(caller.agent).await?;
    let tasks = session.list_tasks(&TaskFilter::default()).await?;
    let filter = RunFilter { states: LIVE.to_vec(), ..RunFilter::default() };
    let live = store.list_runs(caller, &filter, None, MOST_COUNTED).await?;
    let unread = store.check_inbox(caller, None, MOST_COUNTED).await?.len();

    let in_state = |state: TaskState| tasks.iter().filter(|task| task.state == state).count();
    let counted = |state: RunState| live.iter().filter(|run| run.state == state).count();
    let next = tasks.iter().filter(|task| task.state == TaskState::Active);
    let next = next.filter_map(|task| Some((task.next_due_at?, task))).min_by_key(|(at, _)| *at);

    if out.is_json() {
        let names: Vec<_> = executors.iter().map(|it| json!({ "name": it.name, "version": it.version })).collect();
        let live: serde_json::Map<_, _> =
            LIVE.iter().map(|state| (state.to_string(), json!(counted(*state)))).collect();
        return out.json(&json!({
            "now": now,
            "embedded": set.as_ref().map(set_json),
            "executors": names,
            "gate": gate.as_ref().map(|(since, by)| json!({ "shut_at": since, "shut_by": by })),
            "tasks": { "active": in_state(TaskState::Active), "paused": in_state(TaskState::Paused) },
            "runs": live,
            "inbox_unread": unread,
            "next": next.map(|(at, task)| json!({ "due_at": at, "task_id": task.id, "task": task.spec.title })),
        }));
    }
    let row = |name: &str, value: String| out.line(format!("{name:<12}{value}"));
    match &set {
        Some(set) => {
            row("set", format!("{}, version {}, since {}", set.phase, set.version, local(set.started_at, zone)))?;
            if let Some(address) = set.mcp_http {
                row("mcp", config.mcp_urls(address).join(", "))?;
            }
        }
        None => row("database", config.database_url.as_deref().map(redacted).unwrap_or_default())?,
    }
    let names: Vec<_> = executors.iter().map(|it| format!("{} ({}, {})", it.name, it.version, it.state)).collect();
    let none = "none alive: nothing runs until `ordinaut-executor` is started";
    row("executors", if names.is_empty() { none.to_owned() } else { names.join(", ") })?;
    if let Some((since, by)) = &gate {
        row("gate", format!("shut since {} by {by}; `ordinaut resume-all` opens it", local(*since, zone)))?;
    }
    row("tasks", format!("{} active, {} paused", in_state(TaskState::Active), in_state(TaskState::Paused)))?;
    let states: Vec<_> = LIVE.iter().map(|state| format!("{} {state}", counted(*state))).collect();
    row("runs", states.join(", "))?;
    row("inbox", format!("{unread} unread"))?;
    match next {
        Some((at, task)) => {
            row("next", format!("{}, {} ({})", clean(&task.spec.title), local(at, zone), relative(at, now)))
        }
        None => row("next", "nothing is due".to_owned()),
    }
}

fn set_json(set: &SetState) -> serde_json::Value {
    json!({
        "phase": set.phase,
        "version": set.version,
        "started_at": set.started_at,
        "supervisor_pid": set.supervisor.pid,
        "mcp_http": set.mcp_http,
    })
}
