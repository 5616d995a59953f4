//! The verbs that the loops of executors ask, and those whose answers people are told, each cut off at every wait.

use std::{num::NonZeroU16, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{
    id::{LeaseToken, RunId, Shard},
    run::{ErrorKind, StepFailure, StepRecord, StepState, Verdict},
    schedule::ScheduleKind,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _, types::Uuid};

use super::Cut;
use crate::{
    Caller, Role, Settings, Store, StoreError,
    claims::{ClaimedRun, Lease},
    conclusions::Conclusion,
    inbound::NewEvent,
    inbox::NewMessage,
    outbox::{Position, RelayLease},
    tasks::{Inserted, TaskRecord},
    testing::{Database, Fixture, accepted_with},
};

const LEASE: Duration = Duration::from_mins(1);
/// No verb waits so often.
const MOST_WAITS: u32 = 500;

/// A store of one connection, beside a fixture that sets scenes and looks.
struct Scene {
    f: Fixture,
    one: Store,
    local: Caller,
    _database: Database,
}

/// An answer that is there already is not waited for, and whether it is depends on how busy the machine is. So everything
/// is done again until a verb was cut off as deep in as it should be, this often at most.
const SWEEPS: u32 = 30;

/// The last wait at which a verb is cut off at least: by its caller, and inside the transaction of its own.
#[derive(Debug, Clone, Copy)]
struct Deep {
    outside: u32,
    inside: u32,
}

/// A verb of one statement.
const ONE: Deep = Deep { outside: 1, inside: 0 };
/// One with a transaction of its own: begin, a question or two, commit.
const SEVERAL: Deep = Deep { outside: 1, inside: 3 };

impl Scene {
    async fn new() -> Self {
        let (f, database) = Fixture::fresh().await;
        let settings = Settings { max_connections: 1, ..Settings::new(database.url.clone(), Role::Executor) };
        let one = Store::connect(settings).await.unwrap();
        Self { f, one, local: Caller::local("test"), _database: database }
    }

    /// Does `verb` over a scene of its own at each round, cut off one wait later each time, until it is not.
    ///
    /// `probe` is a query with one answer: it must be what it was before the verb, or what it is after a whole one.
    async fn at_every_wait<P, T>(
        &self,
        (what, deep): (&str, Deep),
        scene: impl AsyncFn() -> (P, String),
        verb: impl AsyncFn(&Store, &P) -> Result<T, StoreError>,
    ) {
        let (prepared, probe) = scene().await;
        let before = self.look(&probe).await;
        verb(&self.one, &prepared).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let after = self.look(&probe).await;
        assert_ne!(before, after, "{what} does nothing that is looked at");

        let (mut outside, mut inside) = (0, 0);
        for _ in 0..SWEEPS {
            outside = outside.max(self.sweep(what, false, [&before, &after], &scene, &verb).await);
            inside = inside.max(self.sweep(what, true, [&before, &after], &scene, &verb).await);
            if outside >= deep.outside && inside >= deep.inside {
                return;
            }
        }
        panic!("{what} was cut off at wait {outside} outside and {inside} inside at the latest, not at {deep:?}");
    }

    /// One wait later each time; answers at which it was cut off last.
    async fn sweep<P, T>(
        &self,
        what: &str,
        is_inside: bool,
        [before, after]: [&String; 2],
        scene: &impl AsyncFn() -> (P, String),
        verb: &impl AsyncFn(&Store, &P) -> Result<T, StoreError>,
    ) -> u32 {
        for nth in 1..MOST_WAITS {
            let (prepared, probe) = scene().await;
            assert_eq!(self.look(&probe).await, *before, "{what}: each scene is like the first");
            let cut = if is_inside { self.one.cut.clone() } else { Cut::default() };
            cut.arm(nth);
            let done = if is_inside {
                // It is answered as given up, and says so at once.
                let done = verb(&self.one, &prepared).await;
                cut.arm(0);
                Some(done).filter(|done| !matches!(done, Err(StoreError::Unknown { .. })))
            } else {
                cut.off(verb(&self.one, &prepared)).await
            };
            let told = format!("{what}, cut off {} at wait {nth}", if is_inside { "inside" } else { "outside" });
            self.connection_is_in_order(&told).await;
            let left = self.look(&probe).await;
            if let Some(done) = done {
                done.unwrap_or_else(|error| panic!("{told}: {error:?}"));
                assert_eq!(left, *after, "{told}: it came through");
                return nth - 1;
            }
            assert!(left == *before || left == *after, "{told}: it left {left}, neither {before} nor {after}");
            // Whoever does not know asks again; that it was done already is a good answer, too.
            match verb(&self.one, &prepared).await {
                Ok(_) | Err(StoreError::LeaseLost { .. }) => {}
                Err(error) => panic!("{told}, and asked again: {error:?}"),
            }
            assert_eq!(self.look(&probe).await, *after, "{told}, and asked again");
        }
        panic!("{what} never came through");
    }

    async fn look(&self, probe: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(format!("select ({probe})::text"))).fetch_one(&self.f.owner).await.unwrap()
    }

    /// Whoever gets the connection next is answered what it asks, in no transaction of somebody else's.
    async fn connection_is_in_order(&self, told: &str) {
        for pool in [&self.one.pool, &self.one.urgent] {
            let question = rand::random::<u32>();
            // A message by itself: in a transaction that was begun before, `now()` is an earlier instant.
            let alone = format!("select now() = statement_timestamp() as alone, {question}::bigint as echo");
            let row = pool.fetch_one(sqlx::raw_sql(AssertSqlSafe(alone))).await.unwrap();
            assert_eq!(row.get::<i64, _>("echo"), i64::from(question), "{told}: the answer is to another question");
            assert!(row.get::<bool, _>("alone"), "{told}: its transaction is still open");
        }
    }

    async fn task(&self, fields: Value) -> TaskRecord {
        let title = format!("task {}", Uuid::now_v7());
        self.keep(&title, (ScheduleKind::Manual, ""), self.f.mcp.now().await.unwrap(), fields).await
    }

    async fn keep(&self, title: &str, schedule: (ScheduleKind, &str), now: Timestamp, fields: Value) -> TaskRecord {
        let definition = accepted_with(title, schedule, now, fields);
        match self.f.mcp.insert_task(&self.local, &definition, None).await.unwrap() {
            Inserted::Created(task) | Inserted::Existed(task) => task,
        }
    }

    /// So many pending runs of a task of their own, and nothing else that could be claimed.
    async fn pending(&self, n: usize, fields: Value) -> Vec<RunId> {
        sqlx::query("delete from due_work").execute(&self.f.owner).await.unwrap();
        let task = self.task(fields).await;
        let mut runs = Vec::new();
        for i in 0..n {
            runs.push(self.f.mcp.run_now(&self.local, task.id, &format!("{} {i}", task.id), None).await.unwrap().run);
        }
        runs
    }

    /// So many runs under leases.
    async fn running(&self, n: usize, fields: Value) -> Vec<ClaimedRun> {
        self.pending(n, fields).await;
        claim(&self.f.executor).await.unwrap()
    }
}

async fn claim(store: &Store) -> Result<Vec<ClaimedRun>, StoreError> {
    store.claim_runs(Uuid::now_v7(), NonZeroU16::new(10).expect("not zero"), LEASE, i64::MIN).await
}

fn lease_of(run: &ClaimedRun) -> Lease {
    Lease { run: run.id, token: run.lease_token }
}

fn leases(runs: &[ClaimedRun]) -> Vec<Lease> {
    runs.iter().map(lease_of).collect()
}

fn step(id: &str, state: StepState) -> StepRecord {
    StepRecord {
        step: id.to_owned(),
        index: None,
        uses: "http.post".to_owned(),
        state,
        calls: 1,
        input: json!({ "url": "http://example.com" }),
        output: json!({ "n": 1 }),
        error: None,
        started_at: None,
        finished_at: None,
    }
}

fn concluded(run: &ClaimedRun, verdict: Verdict) -> Conclusion {
    Conclusion { lease: lease_of(run), verdict, steps: Vec::new(), ran_for: Duration::from_millis(5) }
}

#[tokio::test]
async fn planning_that_is_cut_off_plans_every_occurrence_or_none() {
    let s = Scene::new().await;
    s.at_every_wait(
        ("planning", SEVERAL),
        async || {
            // Those that are planned already are of no interest to this round.
            sqlx::query("update task set next_due_at = null").execute(&s.f.owner).await.unwrap();
            let due = s.f.mcp.now().await.unwrap() - Duration::from_secs(1);
            let mut ids = Vec::new();
            for n in ["a", "b"] {
                let title = format!("{n} {}", Uuid::now_v7());
                let anchor = due - Duration::from_hours(1);
                let task = s.keep(&title, (ScheduleKind::Interval, "1h"), anchor, json!({})).await;
                sqlx::query("update task set next_occurrence_at = $2, next_due_at = $2 where id = $1")
                    .bind(task.id.uuid())
                    .bind(jiff_sqlx::ToSqlx::to_sqlx(due))
                    .execute(&s.f.owner)
                    .await
                    .unwrap();
                ids.push(format!("'{}'", task.id));
            }
            let ids = ids.join(", ");
            let probe = format!(
                "select (select count(*) from due_work where task_id in ({ids})) || ' '
                         || (select count(*) from task where id in ({ids}) and next_due_at > clock_timestamp())"
            );
            ((), probe)
        },
        async |store, ()| store.plan_due(10).await,
    )
    .await;
}

#[tokio::test]
async fn a_claim_or_a_renewal_that_is_cut_off_is_made_whole_or_not_at_all() {
    let s = Scene::new().await;
    let running = "select count(*) || ' ' || count(lease_token) from due_work where state = 'running'";
    s.at_every_wait(
        ("a claim", ONE),
        async || (s.pending(3, json!({ "overlap": "allow" })).await, running.to_owned()),
        async |store, _runs| {
            claim(store).await?;
            Ok(())
        },
    )
    .await;
    // What it took is in nobody's hands: recovery finds it like that of an executor that is gone.
    let seen = s.one.held_leases().await.unwrap();
    assert_eq!((seen.len(), s.one.recover_runs(&seen, 5).await.unwrap()), (3, (3, 0)));
    assert_eq!(claim(&s.one).await.unwrap().len(), 3);

    let renewed = "select count(*) from due_work where lease_expires_at > now() + interval '5 minutes'";
    s.at_every_wait(
        ("a renewal", ONE),
        async || (s.running(2, json!({ "overlap": "allow" })).await, renewed.to_owned()),
        async |store, runs| store.renew_leases(&leases(runs), LEASE * 10).await,
    )
    .await;
}

#[tokio::test]
async fn what_an_attempt_journals_is_there_whole_or_not_at_all_when_it_is_cut_off() {
    let s = Scene::new().await;
    let scene = async |probe: &str| {
        let run = s.running(1, json!({})).await.remove(0);
        let probe = probe.replace("$1", &format!("'{}'", run.id));
        (run, probe)
    };
    s.at_every_wait(
        ("pinning", ONE),
        async || scene("select pinned is not null from due_work where run_id = $1").await,
        async |store, run| store.pin_run(lease_of(run), &json!({ "now": 1 })).await,
    )
    .await;

    for state in [StepState::Started, StepState::Succeeded] {
        let probe = format!("select count(*) from step_journal where run_id = $1 and state = '{}'", state.as_str());
        s.at_every_wait(
            ("journaling", ONE),
            async || scene(&probe).await,
            async |store, run| store.write_steps(lease_of(run), &[step("a", state), step("b", state)]).await,
        )
        .await;
    }
}

#[tokio::test]
async fn conclusions_that_are_cut_off_are_all_written_or_none_of_them() {
    let s = Scene::new().await;
    let verdicts = [
        ("succeeding", Verdict::Succeeded { output: json!("done") }),
        ("releasing", Verdict::Released),
        (
            "putting off",
            Verdict::RetryAfter {
                delay: Duration::from_hours(1),
                error: StepFailure::new(ErrorKind::Timeout, "too slow"),
            },
        ),
    ];
    for (what, verdict) in verdicts {
        s.at_every_wait(
            (what, SEVERAL),
            async || {
                let runs = s.running(2, json!({ "overlap": "allow" })).await;
                for run in &runs {
                    let steps = [step("a", StepState::Succeeded)];
                    s.f.executor.write_steps(lease_of(run), &steps).await.unwrap();
                }
                let ids: Vec<String> = runs.iter().map(|run| format!("'{}'", run.id)).collect();
                let probe = "
                        select (select coalesce(string_agg(state || failures, ','), '')
                                from due_work where run_id in ($1))
                            || ' ' || (select count(*) from run where id in ($1))
                            || ' ' || (select count(*) from step_journal where run_id in ($1))
                            || ' ' || (select count(*) from outbox where run_id in ($1))";
                (runs, probe.replace("$1", &ids.join(", ")))
            },
            async |store, runs| {
                store.conclude_runs(runs.iter().map(|run| concluded(run, verdict.clone())).collect()).await
            },
        )
        .await;
    }
}

#[tokio::test]
async fn recovery_and_admission_that_are_cut_off_leave_no_run_between_two_states() {
    let s = Scene::new().await;
    for max_crashes in [5, 1] {
        s.at_every_wait(
            ("recovery", SEVERAL),
            async || {
                let runs = s.running(2, json!({ "overlap": "allow" })).await;
                let ids: Vec<String> = runs.iter().map(|run| format!("'{}'", run.id)).collect();
                let probe = "
                        select (select coalesce(sum(crashes), 0) from due_work where run_id in ($1))
                            || ' ' || (select count(*) from due_work where run_id in ($1) and state = 'running')
                            || ' ' || (select count(*) from run where id in ($1) and state = 'quarantined')";
                let seen = s.f.executor.held_leases().await.unwrap();
                (seen, probe.replace("$1", &ids.join(", ")))
            },
            async |store, seen| store.recover_runs(seen, max_crashes).await,
        )
        .await;
    }

    s.at_every_wait(
        ("admission", SEVERAL),
        async || {
            let fields = json!({ "overlap": "allow", "concurrency_key": "door", "concurrency_limit": 2 });
            for run in s.pending(2, fields).await {
                s.f.block_run(run).await;
            }
            ((), "select count(*) from due_work where state = 'blocked'".to_owned())
        },
        async |store, ()| store.admit_blocked(10).await,
    )
    .await;
}

#[tokio::test]
async fn a_relay_that_is_cut_off_has_moved_or_stands_where_it_stood() {
    let s = Scene::new().await;
    let reset = "update relay_position set lease_token = null, id = 0";
    s.at_every_wait(
        ("taking the relay", ONE),
        async || {
            sqlx::query(reset).execute(&s.f.owner).await.unwrap();
            ((), "select lease_token is not null from relay_position".to_owned())
        },
        async |store, ()| store.take_relay(Shard(0), LeaseToken::from_uuid(Uuid::from_u128(1)), LEASE).await,
    )
    .await;

    s.at_every_wait(
        ("moving the relay", ONE),
        async || {
            sqlx::query(reset).execute(&s.f.owner).await.unwrap();
            let token = LeaseToken::from_uuid(Uuid::from_u128(1));
            let held = s.f.executor.take_relay(Shard(0), token, LEASE).await.unwrap().expect("nobody has it");
            let lease = RelayLease { told: Position { xid: 1, id: 7 }, ..held };
            (lease, "select id from relay_position".to_owned())
        },
        async |store, lease| store.move_relay(Shard(0), lease).await,
    )
    .await;
}

#[tokio::test]
async fn what_somebody_asks_for_and_is_cut_off_is_there_whole_or_not_at_all() {
    let s = Scene::new().await;
    let listens = (ScheduleKind::Event, "ping");
    let now = s.f.mcp.now().await.unwrap();
    let heard = s.keep("hears", listens, now, json!({ "overlap": "allow" })).await;
    let event =
        |id: &str| NewEvent { id: Some(id.to_owned()), topic: "ping".to_owned(), payload: Value::Null, cause_depth: 0 };
    s.at_every_wait(
        ("an event", SEVERAL),
        async || {
            let id = Uuid::now_v7().to_string();
            let probe = format!(
                "select (select count(*) from received where key = 'e:{id}') || ' '
                         || (select count(*) from due_work where task_id = '{}' and occurrence_key = 'e:{id}')",
                heard.id
            );
            (id, probe)
        },
        async |store, id| store.publish_event(&s.local, event(id)).await,
    )
    .await;

    s.at_every_wait(
        ("a request for a run", SEVERAL),
        async || {
            let id = Uuid::now_v7().to_string();
            let probe = format!("select count(*) from due_work where occurrence_key = 'm:{id}'");
            (id, probe)
        },
        async |store, id| store.run_now(&s.local, heard.id, id, None).await,
    )
    .await;

    s.at_every_wait(
        ("a new task", SEVERAL),
        async || {
            let title = format!("task {}", Uuid::now_v7());
            let probe = format!(
                "select (select count(*) from task where title = '{title}') || ' '
                         || (select count(*) from task_revision join task on task.id = task_revision.task_id
                             where task.title = '{title}') || ' '
                         || (select count(*) from outbox join task on task.id = outbox.task_id
                             where task.title = '{title}')"
            );
            (accepted_with(&title, (ScheduleKind::Manual, ""), now, json!({})), probe)
        },
        async |store, definition| store.insert_task(&s.local, definition, None).await,
    )
    .await;

    s.at_every_wait(
        ("a message", ONE),
        async || {
            let key = Uuid::now_v7().to_string();
            let probe = format!("select count(*) from inbox where key = '{key}'");
            (key, probe)
        },
        async |store, key| {
            let message = NewMessage {
                agent: Caller::LOCAL_AGENT,
                task: None,
                run: None,
                key: key.clone(),
                level: "info".to_owned(),
                title: None,
                body: "a".to_owned(),
                cause_depth: 0,
            };
            store.post_message(&message).await
        },
    )
    .await;
}
