//! The verbs that the loops of executors ask, and those whose answers people are told, each cut off at every wait.

use std::time::Duration;

use ordinaut_schema::{
    id::{LeaseToken, Shard},
    run::{ErrorKind, StepFailure, StepState, Verdict},
    schedule::ScheduleKind,
};
use serde_json::{Value, json};
use sqlx::types::Uuid;

use super::scene::{LEASE, ONE, SEVERAL, Scene, claim};
use crate::{
    Caller,
    claims::ClaimedRun,
    conclusions::Conclusion,
    inbound::NewEvent,
    inbox::NewMessage,
    outbox::{Position, RelayLease},
    testing::{accepted_with, step},
};

fn concluded(run: &ClaimedRun, verdict: Verdict) -> Conclusion {
    Conclusion { lease: run.lease(), verdict, steps: Vec::new(), ran_for: Duration::from_millis(5) }
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
async fn waking_that_is_cut_off_wakes_all_or_none() {
    let s = Scene::new().await;
    s.at_every_wait(
        ("waking", ONE),
        async || {
            let runs = s.pending(2, json!({ "overlap": "allow" })).await;
            let ids: Vec<String> = runs.iter().map(|run| format!("'{run}'")).collect();
            let theirs = format!("run_id in ({})", ids.join(", "));
            let waits = format!("update due_work set state = 'waiting', wake_at = now() where {theirs}");
            sqlx::query(sqlx::AssertSqlSafe(waits)).execute(&s.f.owner).await.unwrap();
            ((), format!("select count(*) from due_work where state = 'pending' and {theirs}"))
        },
        async |store, ()| store.look_ahead(10).await,
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
        async |store, runs| {
            store.renew_leases(&runs.iter().map(ClaimedRun::lease).collect::<Vec<_>>(), LEASE * 10).await
        },
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
        async |store, run| store.pin_run(run.lease(), &json!({ "now": 1 })).await,
    )
    .await;

    for state in [StepState::Started, StepState::Succeeded] {
        let probe = format!("select count(*) from step_journal where run_id = $1 and state = '{}'", state.as_str());
        s.at_every_wait(
            ("journaling", ONE),
            async || scene(&probe).await,
            async |store, run| store.write_steps(run.lease(), &[step("a", state), step("b", state)]).await,
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
                    s.f.executor.write_steps(run.lease(), &steps).await.unwrap();
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
