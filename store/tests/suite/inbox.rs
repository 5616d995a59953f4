//! The inbox: posted once, shown until acknowledged, never lost behind a late commit; read at the cost of what is new.

use std::time::Duration;

use ordinaut_schema::{
    id::{MessageId, RunId},
    run::RunState,
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, Store,
    inbox::{AckThrough, Message, Most, NewMessage, News},
    retention::Retention,
    tasks::{Inserted, TaskRecord},
    testing::{Fixture, accepted},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgExecutor};
use tokio::task::JoinSet;

fn me() -> Caller {
    Caller::local("test")
}

fn message(caller: &Caller, key: &str) -> NewMessage {
    NewMessage {
        agent: caller.agent,
        task: None,
        run: None,
        key: key.to_owned(),
        level: "info".to_owned(),
        title: None,
        body: format!("about {key}"),
        cause_depth: 1,
    }
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

#[tokio::test]
async fn posting_again_under_a_key_changes_nothing() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut posts = JoinSet::new();
    for _ in 0..6 {
        let store = fixture.executor.clone();
        posts.spawn(async move { store.post_message(&message(&me(), "run/step")).await.unwrap() });
    }
    let ids = posts.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(fixture.topics(None).await, ["inbox.posted"]);
    assert_eq!(fixture.mcp.check_inbox(&me(), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_is_shown_until_it_is_acknowledged() {
    let (fixture, _database) = Fixture::fresh().await;
    for key in ["a", "b", "c"] {
        fixture.executor.post_message(&message(&me(), key)).await.unwrap();
    }
    let page = fixture.mcp.check_inbox(&me(), None, 2).await.unwrap();
    assert_eq!(bodies(&page), ["about a", "about b"]);
    assert_eq!(bodies(&fixture.mcp.check_inbox(&me(), None, 2).await.unwrap()), ["about a", "about b"]);
    let rest = fixture.mcp.check_inbox(&me(), Some(page[1].id), 2).await.unwrap();
    assert_eq!(bodies(&rest), ["about c"]);
    assert!(fixture.mcp.check_inbox(&me(), Some(rest[0].id), 2).await.unwrap().is_empty());
    // Asked again after a lost answer, and with an id that is no message: nothing happens.
    assert!(fixture.mcp.check_inbox(&me(), Some(rest[0].id), 2).await.unwrap().is_empty());
    assert!(fixture.mcp.check_inbox(&me(), Some(MessageId::new()), 2).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_committed_late_under_an_earlier_id_is_not_taken_for_shown() {
    let (fixture, _database) = Fixture::fresh().await;
    // Its id is drawn first, and its transaction is still open when the next one is posted and shown.
    let mut late = fixture.owner.begin().await.unwrap();
    sqlx::query("insert into inbox (id, agent_id, key, level, body) values ($1, $2, 'late', 'info', 'about late')")
        .bind(MessageId::new().uuid())
        .bind(me().agent.uuid())
        .execute(&mut *late)
        .await
        .unwrap();
    fixture.executor.post_message(&message(&me(), "early")).await.unwrap();
    let shown = fixture.mcp.check_inbox(&me(), None, 10).await.unwrap();
    assert_eq!(bodies(&shown), ["about early"]);
    late.commit().await.unwrap();

    // Another chat looks in between, and is shown both; the first one knows of one only.
    assert_eq!(fixture.mcp.check_inbox(&me(), None, 10).await.unwrap().len(), 2);
    let next = fixture.mcp.check_inbox(&me(), Some(shown[0].id), 10).await.unwrap();
    assert_eq!(bodies(&next), ["about late"]);
    assert!(fixture.mcp.check_inbox(&me(), Some(next[0].id), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_inbox_is_its_agents_alone() {
    let (fixture, _database) = Fixture::fresh().await;
    let other = fixture.agent("other").await.unwrap();
    let mine = fixture.executor.post_message(&message(&me(), "k")).await.unwrap();
    fixture.executor.post_message(&message(&other, "k")).await.unwrap();
    for store in [&fixture.mcp, &fixture.executor] {
        assert_eq!(store.check_inbox(&other, Some(mine), 10).await.unwrap().len(), 1);
    }
    assert_eq!(fixture.mcp.check_inbox(&me(), None, 10).await.unwrap()[0].id, mine, "nobody else acknowledges it");
}

const MOST: Most = Most { messages: 10, problems: 3, approvals: 10 };

/// What a check shows, kept so that it can be acknowledged.
async fn look(store: &Store, caller: &Caller) -> News {
    let news = store.view(caller).await.unwrap().news(MOST).await.unwrap();
    store.mark_shown(caller, &news).await.unwrap();
    news
}

fn runs(news: &News) -> Vec<RunId> {
    news.problems.iter().map(|run| run.id).collect()
}

async fn task(f: &Fixture, who: &Caller) -> TaskRecord {
    let definition = accepted("Report", (ScheduleKind::Manual, ""), f.mcp.now().await.unwrap());
    let (Inserted::Created(task) | Inserted::Existed(task)) = f.mcp.insert_task(who, &definition, None).await.unwrap();
    task
}

/// Writes a row of history, as whoever ends a run does, `ago` seconds old.
async fn end(db: impl PgExecutor<'_>, task: &TaskRecord, state: RunState, ago: u32) -> RunId {
    let id = sqlx::query_scalar(
        "
        insert into run (id, agent_id, task_id, revision, state, skip_reason, trigger, occurrence_key, occurrence_at,
            root_run_id, attempts, failures, crashes, planned_at, finished_at, steps)
        select id, $1, $2, 1, $3, case when $3 = 'skipped' then 'overlap' end, 'schedule', 'm:' || id, at, id, 1, 0, 0,
            at, at, '[]'
        from (select now() - $4 * interval '1 second' as at) as that,
            lateral (select overlay(run_id_floor(at)::text placing right(gen_random_uuid()::text, 12) from 25)::uuid as id) as its
        returning id
        ",
    )
    .bind(task.agent.uuid())
    .bind(task.id.uuid())
    .bind(state.as_str())
    .bind(i32::try_from(ago).unwrap())
    .fetch_one(db)
    .await
    .unwrap();
    RunId::from_uuid(id)
}

#[tokio::test]
async fn what_went_wrong_is_new_until_it_is_acknowledged() {
    let (f, _database) = Fixture::fresh().await;
    let task = task(&f, &me()).await;
    let mut wrong = Vec::new();
    for state in [RunState::Failed, RunState::Quarantined, RunState::Skipped] {
        wrong.push(end(&f.owner, &task, state, 60).await);
        for right in [RunState::Succeeded, RunState::Cancelled] {
            end(&f.owner, &task, right, 60).await;
        }
    }
    wrong.reverse();
    let first = look(&f.mcp, &me()).await;
    assert_eq!(runs(&first), wrong, "newest first");
    assert_eq!(first.problems[0].task_title, "Report");
    assert_eq!(runs(&look(&f.mcp, &me()).await), wrong, "looking acknowledges nothing");

    f.mcp.acknowledge(&me(), first.through.unwrap()).await.unwrap();
    let next = look(&f.mcp, &me()).await;
    assert_eq!((runs(&next), next.through), (Vec::new(), None));
    let one_more = end(&f.owner, &task, RunState::Failed, 60).await;
    assert_eq!(runs(&look(&f.mcp, &me()).await), [one_more]);
    // Their history is what it was.
    assert_eq!(f.mcp.find_run(&me(), wrong[0]).await.unwrap().state, RunState::Skipped);
}

#[tokio::test]
async fn one_acknowledgement_reaches_messages_and_problems_and_nothing_that_was_not_shown() {
    let (f, _database) = Fixture::fresh().await;
    let task = task(&f, &me()).await;
    let mut wrong = Vec::new();
    for _ in 0..5 {
        wrong.push(end(&f.owner, &task, RunState::Failed, 60).await);
    }
    f.executor.post_message(&message(&me(), "a")).await.unwrap();
    let page = look(&f.mcp, &me()).await;
    assert_eq!((bodies(&page.messages), runs(&page)), (vec!["about a"], vec![wrong[4], wrong[3], wrong[2]]));
    f.executor.post_message(&message(&me(), "b")).await.unwrap();
    wrong.push(end(&f.owner, &task, RunState::Failed, 60).await);

    // As a client gives it back.
    let through: AckThrough = page.through.unwrap().to_string().parse().unwrap();
    assert_eq!(through, page.through.unwrap());
    f.mcp.acknowledge(&me(), through).await.unwrap();
    let rest = look(&f.mcp, &me()).await;
    assert_eq!((bodies(&rest.messages), runs(&rest)), (vec!["about b"], vec![wrong[5], wrong[1], wrong[0]]));
    // A listing of problems alone ends at one of them.
    f.mcp.acknowledge(&me(), rest.messages[0].id.into()).await.unwrap();
    let problems = look(&f.mcp, &me()).await;
    assert_eq!((problems.messages.len(), problems.through.unwrap().to_string()), (0, wrong[0].to_string()));
    f.mcp.acknowledge(&me(), problems.through.unwrap().to_string().parse().unwrap()).await.unwrap();
    assert!(look(&f.mcp, &me()).await.through.is_none());
}

#[tokio::test]
async fn a_problem_committed_late_is_not_taken_for_shown() {
    let (f, _database) = Fixture::fresh().await;
    let task = task(&f, &me()).await;
    let before = end(&f.owner, &task, RunState::Failed, 60).await;
    // Noted now, by the clock, and still on its way when the next one is noted and shown.
    let mut late = f.owner.begin().await.unwrap();
    let on_its_way = end(&mut *late, &task, RunState::Failed, 60).await;
    let early = end(&f.owner, &task, RunState::Failed, 60).await;
    let shown = look(&f.mcp, &me()).await;
    assert_eq!(runs(&shown), [early, before]);
    late.commit().await.unwrap();

    // Another chat looks in between, and is shown all; the first one knows of two.
    assert_eq!(runs(&look(&f.mcp, &me()).await), [early, on_its_way, before]);
    f.mcp.acknowledge(&me(), shown.through.unwrap()).await.unwrap();
    assert_eq!(runs(&look(&f.mcp, &me()).await), [on_its_way]);
}

#[tokio::test]
async fn problems_are_their_agents_alone() {
    let (f, _database) = Fixture::fresh().await;
    let other = f.agent("other").await.unwrap();
    let mine = end(&f.owner, &task(&f, &me()).await, RunState::Failed, 60).await;
    let theirs = end(&f.owner, &task(&f, &other).await, RunState::Failed, 60).await;
    let shown = look(&f.mcp, &me()).await;
    assert_eq!((runs(&shown), runs(&look(&f.mcp, &other).await)), (vec![mine], vec![theirs]));
    for store in [&f.mcp, &f.executor] {
        store.acknowledge(&other, shown.through.unwrap()).await.unwrap();
        assert_eq!(runs(&look(store, &me()).await), [mine], "nobody else acknowledges it");
    }
}

#[tokio::test]
async fn a_partition_of_history_that_is_made_later_notes_problems_too() {
    let (f, _database) = Fixture::fresh().await;
    let task = task(&f, &me()).await;
    for ahead in [20, 21] {
        sqlx::query("select make_partition('run', date_trunc('day', now()) + $1 * interval '1 day')")
            .bind(ahead)
            .execute(&f.owner)
            .await
            .unwrap();
    }
    let ahead: RunId = {
        sqlx::query("update task set next_occurrence_at = null").execute(&f.owner).await.unwrap();
        let id: uuid::Uuid = sqlx::query_scalar(
            "
            insert into run (id, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at,
                root_run_id, attempts, failures, crashes, planned_at, finished_at, steps)
            select id, $1, $2, 1, 'failed', 'schedule', 't:ahead', now(), id, 1, 1, 0, now(), now(), '[]'
            from run_id_floor(date_trunc('day', now()) + interval '20 days') as id
            returning id
            ",
        )
        .bind(task.agent.uuid())
        .bind(task.id.uuid())
        .fetch_one(&f.owner)
        .await
        .unwrap();
        RunId::from_uuid(id)
    };
    let lies_in: String = sqlx::query_scalar("select tableoid::regclass::text from run where id = $1")
        .bind(ahead.uuid())
        .fetch_one(&f.owner)
        .await
        .unwrap();
    assert_ne!(lies_in, "run_default");
    assert_eq!(runs(&look(&f.mcp, &me()).await), [ahead]);
}

#[tokio::test]
async fn a_problem_that_nobody_acknowledges_goes_with_its_history() {
    let (f, _database) = Fixture::fresh().await;
    let task = task(&f, &me()).await;
    let (old, young) =
        (end(&f.owner, &task, RunState::Failed, 60).await, end(&f.owner, &task, RunState::Failed, 60).await);
    sqlx::query("update problem set noted_at = now() - interval '31 days' where run_id = $1")
        .bind(old.uuid())
        .execute(&f.owner)
        .await
        .unwrap();
    let day = Duration::from_hours(24);
    f.executor.drop_old(Retention { history: 30 * day, outbox: day, outbox_bytes: u64::MAX }).await.unwrap();
    assert_eq!(runs(&look(&f.mcp, &me()).await), [young]);
}

/// A hundred thousand runs, one in a hundred of which failed: some 6,000 pages with their indexes.
async fn fill_history(f: &Fixture, task: &TaskRecord) {
    sqlx::query(
        "
        insert into run (id, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id,
            attempts, failures, crashes, planned_at, finished_at, steps)
        select id, $1, $2, 1, case when n % 100 = 0 then 'failed' else 'succeeded' end, 'schedule', 't:' || n, at, id, 1,
            0, 0, at, at, '[]'
        from generate_series(1, 100000) as n,
            lateral (select now() - n * interval '3 seconds' as at) as that,
            lateral (select run_id_floor(at) as id) as its
        ",
    )
    .bind(task.agent.uuid())
    .bind(task.id.uuid())
    .execute(&f.owner)
    .await
    .unwrap();
    sqlx::raw_sql("analyze run; analyze problem").execute(&f.owner).await.unwrap();
}

/// How many pages a statement reads as a view asks it: in the MCP role, with the plan that is kept.
async fn pages_read(f: &Fixture, statement: &str, arguments: &str) -> i64 {
    // Not the pool's any more: nobody else meets what is prepared and set on it.
    let mut connection = f.owner.acquire().await.unwrap().detach();
    let mut tx = connection.begin().await.unwrap();
    let setting = format!(
        "set local role ordinaut_mcp; set local ordinaut.agent = '{}'; prepare asked as {statement}",
        Caller::LOCAL_AGENT
    );
    sqlx::raw_sql(AssertSqlSafe(setting)).execute(&mut *tx).await.unwrap();
    sqlx::raw_sql("set local plan_cache_mode = force_generic_plan; set local jit = off")
        .execute(&mut *tx)
        .await
        .unwrap();
    // Twice: what the first one reads of catalogues is nobody's history.
    let mut read = 0;
    for _ in 0..2 {
        let explained: Value = sqlx::query_scalar(AssertSqlSafe(format!(
            "explain (analyze, buffers, format json) execute asked ({arguments})"
        )))
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        let plan = &explained[0]["Plan"];
        read = plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap();
    }
    read
}

#[tokio::test]
async fn looking_reads_what_is_new_and_never_the_history() {
    let (f, _database) = Fixture::fresh().await;
    let task = task(&f, &me()).await;
    fill_history(&f, &task).await;
    for key in 0..30 {
        f.executor.post_message(&message(&me(), &key.to_string())).await.unwrap();
    }
    let agent = Caller::LOCAL_AGENT;
    let news = include_str!("../../queries/news.sql");
    let read = pages_read(&f, news, &format!("'{agent}', 20, 10, 10")).await;
    assert!(read < 300, "{read} pages");

    // The same with nothing new: a thousand runs are acknowledged by one who was shown ten at a time.
    sqlx::query("delete from problem").execute(&f.owner).await.unwrap();
    sqlx::query("update inbox set acked_at = now()").execute(&f.owner).await.unwrap();
    sqlx::raw_sql("analyze problem; analyze inbox").execute(&f.owner).await.unwrap();
    let read = pages_read(&f, news, &format!("'{agent}', 20, 10, 10")).await;
    assert!(read < 60, "{read} pages");
}

#[tokio::test]
async fn a_page_reads_a_page_however_much_there_is() {
    let (f, _database) = Fixture::fresh().await;
    let busy = task(&f, &me()).await;
    sqlx::raw_sql(
        "
        insert into task (id, agent_id, title, title_key, state, revision, schedule_kind)
        select gen_random_uuid(), agent_id, 'T' || n, 't' || n, 'active', 1, 'manual'
        from task, generate_series(1, 5000) as n;
        insert into task_revision (task_id, revision, agent_id, definition, created_by)
        select task.id, 1, task.agent_id, kept.definition, 'test'
        from task
        cross join (select definition from task_revision limit 1) as kept
        where task.title <> 'Report';
        analyze task, task_revision
        ",
    )
    .execute(&f.owner)
    .await
    .unwrap();
    fill_history(&f, &busy).await;
    let (agent, busy) = (Caller::LOCAL_AGENT, busy.id);
    let id = async |of: &str| -> String {
        let id: uuid::Uuid = sqlx::query_scalar(AssertSqlSafe(of.to_owned())).fetch_one(&f.owner).await.unwrap();
        format!("'{id}'")
    };
    let idle = id("select id from task where title = 'T4711'").await;
    let any_run = id("select id from run limit 1").await;

    let tasks = include_str!("../../queries/list_tasks.sql");
    for after in ["null", "'80000000-0000-0000-0000-000000000000'"] {
        let read = pages_read(&f, tasks, &format!("'{agent}', '{{active,paused}}', null, {after}, 21")).await;
        assert!(read < 100, "{read} pages of tasks after {after}");
    }
    let definitions = include_str!("../../queries/definitions.sql");
    let page: String = sqlx::query_scalar("select array_agg(id)::text from (select id from task limit 20) as page")
        .fetch_one(&f.owner)
        .await
        .unwrap();
    let read = pages_read(&f, definitions, &format!("'{page}', array_fill(1, array[20])")).await;
    assert!(read < 150, "{read} pages of definitions");
    let task = include_str!("../../queries/find_task.sql");
    for named in [format!("'{busy}', null"), "null, 't4711'".to_owned()] {
        let read = pages_read(&f, task, &format!("'{agent}', {named}")).await;
        assert!(read < 30, "{read} pages for the task {named}");
    }
    let runs = include_str!("../../queries/list_runs.sql");
    for of in ["null".to_owned(), format!("'{busy}'"), idle] {
        for before in ["null", "run_id_floor(now() - interval '2 days')"] {
            let read = pages_read(&f, runs, &format!("'{agent}', {of}, '{{}}', {before}, null, null, 21")).await;
            assert!(read < 300, "{read} pages of the runs of {of} before {before}");
        }
    }
    let run = include_str!("../../queries/find_run.sql");
    let read = pages_read(&f, run, &format!("'{agent}', {any_run}")).await;
    assert!(read < 60, "{read} pages for a run");
}
