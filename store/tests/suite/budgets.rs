//! Budgets on real PostgreSQL: what is above them does not run, however many plan at once, and what ends is free again.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::{
    action::Offered,
    budget::{Budget, Cost, Day, Tariff},
    id::{RunId, TaskId},
    run::{RunState, SkipReason},
    schedule::ScheduleKind,
    time::Zone,
};
use ordinaut_store::{
    Caller, Role, Settings, Store, StoreError,
    budgets::{Asking, BudgetChange, Spending},
    inbound::{NewEvent, Published},
    runs::{RetryFrom, RunFilter, RunRecord},
    tasks::{Inserted, TaskRef},
    testing::{Fixture, PrivateServers, ServerClock, accepted_with},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinSet;

const MANUAL: (ScheduleKind, &str) = (ScheduleKind::Manual, "");
const PINGS: (ScheduleKind, &str) = (ScheduleKind::Event, "ping");
const HOURLY: (ScheduleKind, &str) = (ScheduleKind::Interval, "1h");

fn me() -> Caller {
    Caller::local("test")
}

fn cost(amount: f64) -> Cost {
    Cost::of(amount).unwrap()
}

async fn keep(f: &Fixture, title: &str, schedule: (ScheduleKind, &str), fields: Value) -> TaskId {
    let anchor = f.mcp.now().await.unwrap() - Duration::from_hours(100);
    let definition = accepted_with(title, schedule, anchor, fields);
    let (Inserted::Created(task) | Inserted::Existed(task)) =
        f.mcp.insert_task(&me(), &definition, None).await.unwrap();
    task.id
}

/// An hourly task of which so many occurrences are due.
async fn due(f: &Fixture, title: &str, occurrences: i32, fields: Value) -> TaskId {
    let task = keep(f, title, HOURLY, fields).await;
    sqlx::query(
        "update task set next_occurrence_at = next_occurrence_at - $2 * interval '1 hour', next_due_at = now() \
         where id = $1",
    )
    .bind(task.uuid())
    .bind(occurrences)
    .execute(&f.owner)
    .await
    .unwrap();
    task
}

async fn publish(f: &Fixture) -> Published {
    let event = NewEvent { id: None, topic: "ping".to_owned(), payload: json!({}), cause_depth: 0 };
    f.mcp.publish_event(&me(), event).await.unwrap()
}

async fn runs(f: &Fixture, task: Option<TaskId>) -> Vec<RunRecord> {
    f.mcp.list_runs(&me(), &RunFilter { task, ..RunFilter::default() }, None, 100).await.unwrap()
}

async fn limit(f: &Fixture, limits: Budget) {
    f.executor.set_agent_budget("local", BudgetChange { clear: true, limits }).await.unwrap();
}

const fn runs_a_day(most: u32) -> Budget {
    Budget { max_runs_per_day: Some(most), max_cost_per_month: None, max_tokens_per_run: None }
}

/// A model whose answers have 1,000 tokens at most and then cost 0.01.
async fn offer(f: &Fixture) {
    let tariff = Tariff { input: cost(1.0), output: cost(10.0), max_tokens: 1000 };
    let offered = Offered {
        models: [("m".to_owned(), "small".to_owned())].into(),
        tariffs: [("m".to_owned(), tariff)].into(),
        default_model: Some("m".to_owned()),
        ..Offered::default()
    };
    f.executor.set_offered(&offered).await.unwrap();
    assert_eq!(f.mcp.offered().await.unwrap(), offered);
}

/// A task whose every run may cost 0.01.
fn asking(fields: Value) -> Value {
    let mut definition = json!({
        "overlap": "allow",
        "pipeline": [{ "id": "ask", "uses": "llm.generate", "with": { "instruction": "x" }, "on_error": "fail" }],
    });
    if let (Value::Object(definition), Value::Object(fields)) = (&mut definition, fields) {
        definition.extend(fields);
    }
    definition
}

fn asks(task: TaskId, run: RunId) -> Asking {
    Asking { agent: Caller::LOCAL_AGENT, task, run, budget: Budget::default(), zone: Zone::utc() }
}

async fn spend(f: &Fixture, asking: &Asking, amount: f64) {
    let allowed = f.executor.budget_for_call(asking).await.unwrap();
    let spending = Spending { tokens: 100, cost: cost(amount), of_answer: cost(amount) };
    f.executor.spend(asking, &allowed, spending).await.unwrap();
}

fn exhausted(answer: Result<impl std::fmt::Debug, StoreError>) -> String {
    match answer {
        Err(StoreError::OverBudget { exhausted, .. }) => exhausted.to_string(),
        other => panic!("it is not over budget: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_runs_of_a_day_hold_however_many_plan_at_once() {
    let (f, _database) = Fixture::fresh().await;
    limit(&f, runs_a_day(5)).await;
    let mut tasks = Vec::new();
    for n in 0..20 {
        tasks.push(due(&f, &format!("task {n}"), 1, json!({})).await);
    }
    let mut planners = JoinSet::new();
    for _ in 0..4 {
        let store = f.executor.clone();
        planners.spawn(async move {
            let mut planned = 0;
            loop {
                planned += store.plan_due(1).await.unwrap().runs;
                let ahead = store.look_ahead(1).await.unwrap();
                if ahead.next_due_at.is_none_or(|next| next > ahead.now) {
                    return planned;
                }
            }
        });
    }
    assert_eq!(planners.join_all().await.into_iter().sum::<u32>(), 5);
    let mut skipped = 0;
    for task in tasks {
        let task = f.mcp.find_task(&me(), &TaskRef::Id(task)).await.unwrap();
        assert!(task.last_occurrence_at.is_some());
        skipped += task.open_stretch.map_or(0, |stretch| u32::from(stretch.reason == SkipReason::Budget));
    }
    assert_eq!(skipped, 15, "each of the others is covered by its open stretch");
}

#[tokio::test]
async fn of_several_tasks_planned_in_one_visit_no_more_run_than_the_agent_may() {
    let (f, _database) = Fixture::fresh().await;
    limit(&f, runs_a_day(3)).await;
    for n in 0..6 {
        due(&f, &format!("task {n}"), 1, json!({})).await;
    }
    assert_eq!(f.executor.plan_due(10).await.unwrap().runs, 3);
    limit(&f, Budget::default()).await;
    due(&f, "one more", 1, json!({})).await;
    assert_eq!(f.executor.plan_due(10).await.unwrap().runs, 1, "a budget that is cleared holds nobody back");
}

#[tokio::test]
async fn a_backlog_over_several_days_runs_so_many_of_each_day_of_the_tasks_zone() {
    let (f, _database) = Fixture::fresh().await;
    let fields = json!({
        "max_runs_per_day": 2, "misfire": "run_all", "overlap": "allow", "timezone": "Europe/Chisinau",
    });
    let task = due(&f, "backlog", 60, fields).await;
    f.executor.plan_due(10).await.unwrap();
    let zone = Zone::find("Europe/Chisinau").unwrap();
    let mut planned: BTreeMap<Day, Vec<Timestamp>> = BTreeMap::new();
    let all = runs(&f, Some(task)).await;
    for run in all.iter().filter(|run| run.state != RunState::Skipped) {
        planned.entry(Day::of(run.occurrence_at, &zone)).or_default().push(run.occurrence_at);
    }
    let now = f.mcp.now().await.unwrap();
    let days: Vec<_> = Day::through(now - SignedDuration::from_hours(59), now, &zone).collect();
    assert!(days.iter().all(|day| planned.get(day).is_some_and(|runs| runs.len() <= 2)), "{planned:?}");
    // All but the first day and the last one are whole.
    assert!(days[1..days.len() - 1].iter().all(|day| planned[day].len() == 2), "{planned:?}");
    for (day, runs) in &planned {
        let first = runs.iter().min().unwrap();
        let begins = day.bounds(&zone).0;
        let is_first_day = *day == days[0];
        assert!(is_first_day || *first < begins + SignedDuration::from_hours(1), "the first of a day run: {planned:?}");
    }
    let skipped: u32 = all.iter().filter_map(|run| run.stretch.map(|stretch| stretch.1)).sum();
    let open = f.mcp.find_task(&me(), &TaskRef::Id(task)).await.unwrap().open_stretch;
    let covered = u32::try_from(all.iter().filter(|run| run.state != RunState::Skipped).count()).unwrap();
    assert_eq!(covered + skipped + open.map_or(0, |open| open.count), 60, "each occurrence is covered once");
}

#[tokio::test]
async fn a_request_over_budget_is_refused_with_nothing_stored_and_a_retry_is_no_run_more() {
    let (f, _database) = Fixture::fresh().await;
    let task = keep(&f, "asked", MANUAL, json!({ "max_runs_per_day": 1 })).await;
    let first = f.mcp.run_now(&me(), task, "1", None).await.unwrap().run;
    let why = exhausted(f.mcp.run_now(&me(), task, "2", None).await);
    assert!(why.contains("the task's `max_runs_per_day` of 1 is reached; it begins anew at "), "{why}");
    assert_eq!(runs(&f, None).await.len(), 1);

    f.mcp.cancel_run(&me(), first, None).await.unwrap();
    let retry = f.mcp.retry_run(&me(), first, RetryFrom::Start).await.unwrap();
    f.mcp.cancel_run(&me(), retry, None).await.unwrap();
    exhausted(f.mcp.run_now(&me(), task, "3", None).await);
    let more = accepted_with("asked", MANUAL, f.mcp.now().await.unwrap(), json!({ "max_runs_per_day": 2 }));
    f.mcp.update_task(&me(), task, &more, None, false).await.unwrap();
    assert!(!f.mcp.run_now(&me(), task, "2", None).await.unwrap().existed, "the refusal left no trace");
    exhausted(f.mcp.run_now(&me(), task, "4", None).await);
}

#[tokio::test]
async fn an_event_over_budget_is_a_skipped_occurrence_with_that_reason() {
    let (f, _database) = Fixture::fresh().await;
    let task = keep(&f, "listens", PINGS, json!({ "max_runs_per_day": 2 })).await;
    limit(&f, runs_a_day(3)).await;
    for _ in 0..2 {
        assert_eq!(publish(&f).await.runs.len(), 1);
    }
    let third = publish(&f).await;
    assert_eq!((third.runs.len(), third.skipped.len()), (0, 1));
    assert!(third.skipped[0].1.starts_with("budget: the task's `max_runs_per_day` of 2"), "{third:?}");
    let skipped: Vec<_> = runs(&f, Some(task)).await.into_iter().filter_map(|run| run.skip_reason).collect();
    assert_eq!(skipped, [SkipReason::Budget]);

    keep(&f, "listens, too", PINGS, json!({})).await;
    let (fourth, fifth) = (publish(&f).await, publish(&f).await);
    assert_eq!((fourth.runs.len(), fifth.runs.len()), (1, 0), "the agent's own budget is one of three");
    assert!(fifth.skipped.iter().any(|(_, why)| why.contains("the agent's")), "{fifth:?}");
}

#[tokio::test]
async fn what_runs_may_cost_is_set_aside_while_they_live_and_what_they_cost_is_kept() {
    let (f, _database) = Fixture::fresh().await;
    offer(&f).await;
    let task = keep(&f, "costly", MANUAL, asking(json!({ "max_cost_per_month": 0.03 }))).await;
    let ask = async |request: &str| f.mcp.run_now(&me(), task, request, None).await;
    let mut live = Vec::new();
    for n in 0..3 {
        live.push(ask(&n.to_string()).await.unwrap().run);
    }
    let why = exhausted(ask("3").await);
    assert!(why.contains("`max_cost_per_month` of 0.03 would be passed: 0.00 is spent, 0.03 set aside"), "{why}");

    f.mcp.cancel_run(&me(), live[0], None).await.unwrap();
    live.push(ask("4").await.unwrap().run);
    // An answer that cost less than was set aside for it sets the rest free when the run ends, not before.
    spend(&f, &asks(task, live[1]), 0.004).await;
    exhausted(ask("5").await);
    f.mcp.cancel_run(&me(), live[1], None).await.unwrap();
    let why = exhausted(ask("6").await);
    assert!(why.contains("0.004 is spent, 0.02 set aside"), "{why}");

    let record = f.mcp.find_task(&me(), &TaskRef::Id(task)).await.unwrap();
    let standing = f.mcp.task_budget(&me(), &record).await.unwrap().unwrap();
    assert_eq!((standing.spent, standing.reserved, standing.calls), (cost(0.004), cost(0.02), 1));
    let agents = f.executor.agent_budget("local").await.unwrap();
    assert_eq!((agents.spent, agents.tokens, agents.runs_today), (cost(0.004), 100, 4));
    let retry = f.mcp.retry_run(&me(), live[1], RetryFrom::Start).await;
    assert!(exhausted(retry).contains("0.01 is needed"), "a retry costs as any run does");
}

#[tokio::test]
async fn an_agents_budget_of_cost_is_one_for_all_its_tasks_and_nobody_elses() {
    let (f, _database) = Fixture::fresh().await;
    offer(&f).await;
    limit(&f, Budget { max_cost_per_month: Some(cost(0.02)), ..Budget::default() }).await;
    for n in 0..3 {
        due(&f, &format!("task {n}"), 1, asking(json!({}))).await;
    }
    assert_eq!(f.executor.plan_due(10).await.unwrap().runs, 2);
    let cheap = keep(&f, "cheap", MANUAL, json!({})).await;
    f.mcp.run_now(&me(), cheap, "1", None).await.expect("what costs nothing fits");
    let other = f.agent("other").await.unwrap();
    let definition = accepted_with("theirs", MANUAL, f.mcp.now().await.unwrap(), asking(json!({})));
    let (Inserted::Created(theirs) | Inserted::Existed(theirs)) =
        f.mcp.insert_task(&other, &definition, None).await.unwrap();
    f.mcp.run_now(&other, theirs.id, "1", None).await.unwrap();
    let reserved: i64 = sqlx::query_scalar("select count(reserved_cost) from due_work where agent_id = $1")
        .bind(other.agent.uuid())
        .fetch_one(&f.owner)
        .await
        .unwrap();
    assert_eq!(reserved, 0, "nothing is set aside where nobody counts");
}

#[tokio::test]
async fn the_tokens_of_a_run_are_counted_by_its_row_and_the_smaller_limit_holds() {
    let (f, _database) = Fixture::fresh().await;
    let task = keep(&f, "wordy", MANUAL, json!({})).await;
    let run = f.mcp.run_now(&me(), task, "1", None).await.unwrap().run;
    let unlimited = asks(task, run);
    spend(&f, &unlimited, 0.0).await;
    assert_eq!(f.executor.budget_for_call(&unlimited).await.unwrap().tokens_used, 0, "nobody asked to count");
    limit(&f, Budget { max_tokens_per_run: Some(500), ..Budget::default() }).await;
    let limited = Asking { budget: Budget { max_tokens_per_run: Some(700), ..Budget::default() }, ..unlimited };
    for used in [0, 100] {
        let allowed = f.executor.budget_for_call(&limited).await.unwrap();
        assert_eq!((allowed.most_tokens.map(|it| it.0), allowed.tokens_used), (Some(500), used));
        spend(&f, &limited, 0.0).await;
    }
}

#[tokio::test]
async fn a_change_of_an_agents_budget_is_written_down_and_is_the_operators_to_make() {
    let (f, _database) = Fixture::fresh().await;
    limit(&f, runs_a_day(5)).await;
    let change = BudgetChange { limits: Budget { max_tokens_per_run: Some(9), ..Budget::default() }, clear: false };
    let standing = f.executor.set_agent_budget("local", change).await.unwrap();
    assert_eq!(standing.budget, Budget { max_tokens_per_run: Some(9), ..runs_a_day(5) });
    let verbs: Vec<String> =
        sqlx::query_scalar("select verb from audit_log order by id").fetch_all(&f.owner).await.unwrap();
    assert_eq!(verbs, ["change_budget", "change_budget"]);
    f.mcp.set_agent_budget("local", change).await.unwrap_err();
    for statement in
        ["update agent_budget set max_runs_per_day = 9", "delete from spending", "delete from agent_budget"]
    {
        let text = format!("set role ordinaut_mcp; {statement}");
        let mut connection = f.owner.acquire().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *connection).await.unwrap_err();
        sqlx::raw_sql("reset role").execute(&mut *connection).await.unwrap();
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, clippy::disallowed_methods, reason = "it says when it is left out, which CI must not")]
async fn a_month_begins_anew_by_the_clock_of_the_tasks_zone_and_of_the_agents() {
    let Some(library) = ServerClock::library() else {
        assert!(std::env::var_os("CI").is_none(), "libfaketime is missing");
        eprintln!("SKIPPED: libfaketime is not installed; no clock can be moved");
        return;
    };
    // 23:30 in Chisinau, half an hour before December.
    let servers = PrivateServers::start_at("2026-11-30T21:30:00Z".parse().unwrap(), &library).await;
    let database = servers.database().await;
    let f = fixture(&database.url, database.pool.clone()).await;
    offer(&f).await;
    let fields = asking(json!({ "max_cost_per_month": 0.01, "timezone": "Europe/Chisinau" }));
    let task = keep(&f, "costly", MANUAL, fields).await;
    let run = f.mcp.run_now(&me(), task, "1", None).await.unwrap().run;
    let asking = Asking { zone: Zone::find("Europe/Chisinau").unwrap(), ..asks(task, run) };
    spend(&f, &asking, 0.008).await;
    f.mcp.cancel_run(&me(), run, None).await.unwrap();
    let why = exhausted(f.mcp.run_now(&me(), task, "2", None).await);
    assert!(why.ends_with("it begins anew at 2026-12-01T00:00:00+02:00"), "{why}");
    assert_eq!(f.executor.agent_budget("local").await.unwrap().spent, cost(0.008));

    servers.clock.as_ref().unwrap().set("2026-11-30T22:01:00Z".parse().unwrap());
    f.mcp.run_now(&me(), task, "3", None).await.expect("it is December there");
    assert_eq!(f.executor.agent_budget("local").await.unwrap().spent, cost(0.008), "and November yet in UTC");
    servers.clock.as_ref().unwrap().set("2026-12-01T00:01:00Z".parse().unwrap());
    assert_eq!(f.executor.agent_budget("local").await.unwrap().spent, Cost::ZERO);
}

async fn fixture(url: &str, owner: PgPool) -> Fixture {
    let open = |role| Store::connect(Settings::new(url, role));
    Fixture { mcp: open(Role::Mcp).await.unwrap(), executor: open(Role::Executor).await.unwrap(), owner }
}
