//! A backup is worth what can be restored from it: a dump with runs in flight goes on in another cluster.

use std::{collections::BTreeSet, time::Duration};

use nix::sys::signal::Signal;
use ordinaut_schema::{
    action::Grants,
    id::{RunId, TaskId},
    run::RunState,
};
use ordinaut_store::{Caller, Role, Settings, Store, StoreError, runs::RunFilter, tasks::TaskRef};
use tokio::time::timeout;

use crate::support::lab::{Lab, me, until, written};
use crate::support::programs;

/// Transaction ids of the cluster that is left lie ahead of those of the one that is moved into.
const BUSY_YEARS: &str = "
create temporary table seen ();
do $$ begin
    for n in 1..20000 loop
        begin insert into seen default values; exception when others then raise; end;
    end loop;
end $$;
";

/// Who may do what to the tables, the functions and the rows.
const RIGHTS: &str = "
select tablename || ' ' || policyname || ' ' || roles::text || ' ' || qual || ' ' || coalesce(with_check, '')
from pg_policies
union all
select relname || ' ' || relrowsecurity || ' ' || relforcerowsecurity || ' ' || coalesce(acl.entry, '')
from pg_class
left join lateral (select item::text as entry from unnest(relacl) as item) as acl on true
where relnamespace = 'public'::regnamespace
union all
select proname || ' ' || prosecdef || ' ' || coalesce(acl.entry, '')
from pg_proc
left join lateral (select item::text as entry from unnest(proacl) as item) as acl on true
where pronamespace = 'public'::regnamespace
union all
select rolname || ' ' || rolsuper || ' ' || rolbypassrls || ' ' || rolcanlogin
from pg_roles
where rolname like 'ordinaut%'
order by 1
";

fn calls(title: &str, more: &str, sink: &str) -> String {
    format!(
        "{{title: {title}, schedule_kind: manual, {more}, pipeline: [{{uses: http.put, with: {{url: SINK/{sink}}}}}]}}"
    )
}

const NOTHING: &str = "pipeline: [{uses: data.transform, with: {expr: '`1`'}}]";

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_with_runs_in_flight_goes_on_in_a_fresh_cluster() {
    let lab = Lab::open().await.with_short_leases();
    lab.ask(BUSY_YEARS).await;
    // Nothing that happens from here on is told.
    lab.servers.redis.process.signal(Signal::SIGKILL);
    let mut executor = lab.executor("left behind");
    let turns = lab.keep(&calls("turns", "overlap: queue", "hold/turns")).await;
    let keyed = lab.keep(&calls("keyed", "overlap: allow, concurrency_key: door", "hold/keyed")).await;
    let retry = "retry: {max_attempts: 2, backoff: fixed, initial: 5s}";
    let retried = lab.keep(&calls("retried", retry, "fail/retried")).await;
    let works = lab.keep(&format!("{{title: works, schedule_kind: manual, {NOTHING}}}")).await;

    let done = lab.run_now(works, "done").await;
    assert_eq!(lab.end_of(done).await.state, RunState::Succeeded);
    let ask = async |task: TaskId, request: &str| lab.run_now(task, request).await;
    let running = [ask(turns, "a").await, ask(keyed, "b").await];
    lab.sink.saw("turns", 1).await;
    lab.sink.saw("keyed", 1).await;
    let blocked = [ask(turns, "c").await, ask(keyed, "d").await];
    let waiting = ask(retried, "e").await;
    is(&lab, waiting, RunState::Waiting).await;
    executor.start_kill().unwrap();
    timeout(programs::PATIENCE, executor.wait()).await.unwrap().unwrap();
    let pending = ask(works, "f").await;
    for (runs, state) in
        [(&running[..], RunState::Running), (&blocked, RunState::Blocked), (&[pending], RunState::Pending)]
    {
        for run in runs {
            is(&lab, *run, state).await;
        }
    }
    let due = lab.store.now().await.unwrap() + Duration::from_secs(1);
    let once = format!("{{title: once, schedule_kind: once, schedule_expr: '{}', {NOTHING}}}", written(due));
    let once = lab.keep(&once).await;
    let (agent, _token) = lab.store.add_agent("other", None, &Grants::default(), &[], None).await.unwrap();
    let other = Caller::of(agent, "other");
    let theirs = lab.keep_as(&other, &format!("{{title: theirs, schedule_kind: manual, {NOTHING}}}")).await;

    let restored = lab.restored().await.with_short_leases();
    assert_eq!(restored.ask(RIGHTS).await, lab.ask(RIGHTS).await);
    let before = xid(&lab, "pg_snapshot_xmax(pg_current_snapshot())").await;
    assert!(before > xid(&restored, "pg_snapshot_xmax(pg_current_snapshot())").await, "the premise");
    lab.servers.postgres.stop().await.unwrap();
    let _executors = [restored.executor("one"), restored.executor("two")];
    restored.sink.saw("turns", 2).await;
    restored.sink.let_go();
    let runs: Vec<RunId> = [&[done][..], &running, &blocked, &[waiting, pending]].concat();
    for run in &runs {
        let run = restored.end_of(*run).await;
        let state = if run.id == waiting { RunState::Failed } else { RunState::Succeeded };
        let again = u32::from(running.contains(&run.id));
        let attempts = if run.id == waiting { 2 } else { 1 + again };
        assert_eq!((run.state, run.attempts, run.crashes), (state, attempts, again), "{run:?}");
    }
    let of_once = RunFilter { task: Some(once), ..RunFilter::default() };
    let of_once = async || restored.store.list_runs(&me(), &of_once, None, 10).await.unwrap();
    let once = until("the run that was still to come", async || of_once().await.first().map(|run| run.id)).await;
    restored.end_of(once).await;
    restored.idle().await;
    assert_eq!(restored.database.history().await.len(), 8, "no run was doubled");
    for (name, first, second) in [("turns", running[0], blocked[0]), ("keyed", running[1], blocked[1])] {
        // The one that ran was cut off by the kill and is called again under its key; the other began afterwards.
        let expected = [first, first, second].map(|run| run.to_string());
        assert_eq!(restored.sink.callers(name), expected);
    }

    let runs: BTreeSet<String> = runs.iter().chain([&once]).map(ToString::to_string).collect();
    let events = until("the end of every run is told", async || {
        let events = told(&restored).await;
        let ended = events.iter().filter(|event| is_end(event)).map(|event| event.run.clone()).collect::<BTreeSet<_>>();
        (ended == runs).then_some(events)
    })
    .await;
    assert_eq!(events.iter().filter(|event| is_end(event)).count(), runs.len(), "{events:?}");
    assert_eq!(events.iter().filter(|event| event.topic == "task.created").count(), 6, "{events:?}");
    sees_its_own(&restored, &other, theirs).await;
}

async fn is(lab: &Lab, run: RunId, state: RunState) {
    until(&format!("run {run} is {state}"), async || {
        (lab.store.find_run(&me(), run).await.unwrap().state == state).then_some(())
    })
    .await;
}

async fn xid(lab: &Lab, of: &str) -> u64 {
    lab.ask(&format!("select {of}")).await.trim().parse().unwrap()
}

/// Row-level security holds in the role that is subject to it.
async fn sees_its_own(lab: &Lab, other: &Caller, theirs: TaskId) {
    let store = Store::connect(Settings::new(lab.database.url.clone(), Role::Mcp)).await.unwrap();
    assert_eq!(store.find_task(other, &TaskRef::Id(theirs)).await.unwrap().id, theirs);
    let hidden = store.find_task(&me(), &TaskRef::Id(theirs)).await;
    assert!(matches!(hidden, Err(StoreError::TaskNotFound { .. })), "{hidden:?}");
    let seen = "set role ordinaut_mcp; select count(*) from task";
    assert_eq!(lab.ask(seen).await.lines().last(), Some("0"), "nobody's rows are seen by nobody");
}

#[derive(Debug)]
struct Event {
    topic: String,
    run: String,
}

fn is_end(event: &Event) -> bool {
    matches!(event.topic.as_str(), "run.succeeded" | "run.failed")
}

/// What the stream has, as `redis-cli` prints it: each field's name in a line, its value in the next.
async fn told(lab: &Lab) -> Vec<Event> {
    let stream = lab.redis(&["xrange", "ordinaut:events", "-", "+"]).await;
    let lines: Vec<&str> = stream.lines().collect();
    let mut events = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        match *line {
            "topic" => events.push(Event { topic: lines[at + 1].to_owned(), run: String::new() }),
            "run" => lines[at + 1].clone_into(&mut events.last_mut().unwrap().run),
            _ => {}
        }
    }
    events
}
