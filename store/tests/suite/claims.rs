//! Claims and leases: who may write a run, under races.

use std::{collections::BTreeSet, num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    id::{LeaseToken, RunId},
    run::{ErrorKind, RunState, StepFailure, StepRecord, StepState, Verdict},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, StoreError,
    claims::{ClaimedRun, Room, Suspects},
    conclusions::{Conclusion, Written},
    runs::Cancelling,
    tasks::Inserted,
    testing::{Fixture, accepted_with, step},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

const LEASE: Duration = Duration::from_mins(1);

fn limit(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).expect("not zero")
}

fn succeeded(run: &ClaimedRun) -> Conclusion {
    Conclusion {
        lease: run.lease(),
        verdict: Verdict::Succeeded { output: json!("done") },
        steps: Vec::new(),
        ran_for: Duration::from_millis(5),
    }
}

/// `n` pending runs of one manual task that lets its runs overlap.
async fn pending_runs(f: &Fixture, n: usize, fields: Value) -> Vec<RunId> {
    let local = Caller::local("test");
    let now = f.mcp.now().await.unwrap();
    let definition = accepted_with("claims", (ScheduleKind::Manual, ""), now, fields);
    let task = match f.mcp.insert_task(&local, &definition, None).await.unwrap() {
        Inserted::Created(task) | Inserted::Existed(task) => task.id,
    };
    let mut runs = Vec::new();
    for i in 0..n {
        runs.push(f.mcp.run_now(&local, task, &format!("request {i}"), None).await.unwrap().run);
    }
    runs
}

async fn claim(f: &Fixture, n: u16) -> Vec<ClaimedRun> {
    f.executor.claim_runs(Uuid::now_v7(), limit(n), LEASE, i64::MIN).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_run_is_claimed_by_exactly_one_worker() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 40, json!({ "overlap": "allow" })).await;

    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let store = f.executor.clone();
        workers.spawn(async move {
            let mut mine = Vec::new();
            // Two empty claims in a row are an empty queue; one is not.
            let mut empty = 0;
            while empty < 2 {
                let runs = store.claim_runs(Uuid::now_v7(), limit(10), LEASE, i64::MIN).await.unwrap();
                empty = if runs.is_empty() { empty + 1 } else { 0 };
                mine.extend(runs.into_iter().map(|run| run.id));
            }
            mine
        });
    }
    let claimed: Vec<RunId> = workers.join_all().await.into_iter().flatten().collect();

    assert_eq!(claimed.len(), 40);
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), 40, "a run was claimed twice");
}

#[tokio::test]
async fn only_runs_that_compute_are_claimed_ahead_of_the_permits_and_none_past_one_that_does_more() {
    let (f, _database) = Fixture::fresh().await;
    let compute = json!([{ "id": "a", "uses": "data.transform", "with": { "expr": "now" } }]);
    let pure = pending_runs(&f, 4, json!({ "overlap": "allow", "pipeline": compute })).await;
    let claim = async |permits, ahead| {
        let room = Room { permits, ahead };
        let claimed = f.executor.claim_runs_apart(Uuid::now_v7(), room, LEASE, i64::MIN, Suspects::NONE).await.unwrap();
        claimed.iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(claim(0, 1).await, pure[..1], "no permit is needed");

    let reach = json!([
        { "id": "a", "uses": "data.transform", "with": { "expr": "now" } },
        { "id": "b", "uses": "http.get", "with": { "url": "http://example.com" } },
    ]);
    let (local, now) = (Caller::local("test"), f.mcp.now().await.unwrap());
    let definition = accepted_with("effects", (ScheduleKind::Manual, ""), now, json!({ "pipeline": reach }));
    let task = match f.mcp.insert_task(&local, &definition, None).await.unwrap() {
        Inserted::Created(task) | Inserted::Existed(task) => task.id,
    };
    let effect = [f.mcp.run_now(&local, task, "an effect", None).await.unwrap().run];
    assert_eq!(claim(0, 10).await, [], "what is last in rank would be waited for by those before it");
    assert_eq!(claim(1, 10).await, pure[1..2]);

    // Behind a shut gate nobody waits for it.
    let gate = "insert into gate (agent_id, shut_by) select agent_id, 'test' from due_work where run_id = $1";
    let apart = f.agent("another").await.unwrap();
    sqlx::query("update due_work set agent_id = $2 where run_id = $1")
        .bind(effect[0].uuid())
        .bind(apart.agent.uuid())
        .execute(&f.owner)
        .await
        .unwrap();
    sqlx::query(gate).bind(effect[0].uuid()).execute(&f.owner).await.unwrap();
    assert_eq!(claim(0, 1).await, pure[2..3]);
    sqlx::query("delete from gate").execute(&f.owner).await.unwrap();
    assert_eq!(claim(2, 10).await, [pure[3], effect[0]], "with a permit each, in the order of their rank");
}

#[tokio::test]
async fn runs_are_claimed_in_the_order_of_their_rank() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 3, json!({ "overlap": "allow" })).await;
    let runs = claim(&f, 10).await;
    assert!(runs.is_sorted_by_key(|run| run.rank));
    assert_eq!(runs.iter().map(|run| run.attempt).collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn of_many_the_first_in_rank_are_claimed_first_whenever_they_came() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    for priority in [9, 2, 5, 1, 7] {
        let (now, title) = (f.mcp.now().await.unwrap(), format!("priority {priority}"));
        let fields = json!({ "overlap": "allow", "priority": priority });
        let definition = accepted_with(&title, (ScheduleKind::Manual, ""), now, fields);
        let (Inserted::Created(task) | Inserted::Existed(task)) =
            f.mcp.insert_task(&local, &definition, None).await.unwrap();
        f.mcp.run_now(&local, task.id, &title, None).await.unwrap();
    }
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.extend(claim(&f, 1).await.into_iter().map(|run| run.occurrence_key));
    }
    assert_eq!(keys, [1, 2, 5, 7, 9].map(|priority| format!("m:priority {priority}")));
}

#[tokio::test]
async fn a_rank_is_the_instant_half_a_minute_a_level_and_a_quantum_for_each_run_its_agent_has_pending() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 3, json!({ "overlap": "allow", "priority": 3 })).await;
    let back: Vec<_> = claim(&f, 3).await.iter().map(|run| run.rank - run.occurrence_at.as_microsecond()).collect();
    assert_eq!(back, [60_000_000, 60_010_000, 60_020_000]);
}

#[tokio::test]
async fn nothing_is_claimed_behind_a_shut_gate() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 1, json!({})).await;
    f.executor.shut_gate(None, "a test").await.unwrap();
    assert!(claim(&f, 10).await.is_empty());
    f.executor.open_gate(None).await.unwrap();
    f.executor.shut_gate(Some(Caller::LOCAL_AGENT), "a test").await.unwrap();
    assert!(claim(&f, 10).await.is_empty());
    f.executor.open_gate(Some(Caller::LOCAL_AGENT)).await.unwrap();
    assert_eq!(claim(&f, 10).await.len(), 1);
}

#[tokio::test]
async fn a_stale_attempt_cannot_finish_a_run() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 1, json!({})).await;
    let stale = claim(&f, 1).await.remove(0);
    let seen = f.executor.held_leases().await.unwrap();
    assert_eq!(f.executor.recover_runs(&seen, 5).await.unwrap(), (1, 0));
    let fresh = claim(&f, 1).await.remove(0);
    assert_eq!((fresh.id, fresh.attempt, fresh.crashes), (stale.id, 2, 1));

    assert_eq!(f.executor.conclude_runs(vec![succeeded(&stale)]).await.unwrap(), [Written::LeaseLost]);
    let wrote = f.executor.write_steps(stale.lease(), &[step("a", StepState::Succeeded)]).await;
    assert!(matches!(wrote, Err(StoreError::LeaseLost { .. })), "{wrote:?}");
    assert!(f.executor.renew_leases(&[stale.lease()], LEASE).await.unwrap().is_empty());
    assert!(matches!(f.executor.pin_run(stale.lease(), &json!({})).await, Err(StoreError::LeaseLost { .. })));

    assert_eq!(f.executor.conclude_runs(vec![succeeded(&fresh)]).await.unwrap(), [Written::Yes]);
    let run = f.mcp.find_run(&Caller::local("test"), fresh.id).await.unwrap();
    assert_eq!((run.state, run.attempts, run.crashes), (RunState::Succeeded, 2, 1));
}

#[tokio::test]
async fn a_lease_that_was_renewed_since_it_was_seen_is_not_taken() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 1, json!({})).await;
    let run = claim(&f, 1).await.remove(0);
    let seen = f.executor.held_leases().await.unwrap();
    let renewed = f.executor.renew_leases(&[run.lease()], LEASE * 2).await.unwrap();
    assert_eq!(renewed.len(), 1);
    assert_eq!(f.executor.recover_runs(&seen, 5).await.unwrap(), (0, 0));
    assert_eq!(f.executor.conclude_runs(vec![succeeded(&run)]).await.unwrap(), [Written::Yes]);
}

#[tokio::test]
async fn a_run_that_kills_its_executors_is_quarantined() {
    let (f, _database) = Fixture::fresh().await;
    let run = pending_runs(&f, 1, json!({})).await[0];
    for crash in 1..=3 {
        assert_eq!(claim(&f, 1).await.len(), 1);
        let seen = f.executor.held_leases().await.unwrap();
        let expected = if crash < 3 { (1, 0) } else { (0, 1) };
        assert_eq!(f.executor.recover_runs(&seen, 3).await.unwrap(), expected);
    }
    let run = f.mcp.find_run(&Caller::local("test"), run).await.unwrap();
    assert_eq!((run.state, run.crashes), (RunState::Quarantined, 3));
    assert!(claim(&f, 1).await.is_empty());
}

/// Every executor dies; answers how many runs were (recovered, quarantined).
async fn crash(f: &Fixture) -> (u32, u32) {
    let seen = f.executor.held_leases().await.unwrap();
    f.executor.recover_runs(&seen, 3).await.unwrap()
}

#[tokio::test]
async fn crashes_between_which_a_step_was_done_quarantine_nobody() {
    let (f, _database) = Fixture::fresh().await;
    let run = pending_runs(&f, 1, json!({})).await[0];
    for id in ["a", "b", "c", "d"] {
        let claimed = claim(&f, 1).await.remove(0);
        f.executor.write_steps(claimed.lease(), &[step(id, StepState::Succeeded)]).await.unwrap();
        assert_eq!(crash(&f).await, (1, 0), "after step {id}");
    }
    let begun = StepRecord { calls: 0, ..step("e", StepState::Started) };
    for expected in [(1, 0), (0, 1)] {
        let claimed = claim(&f, 1).await.remove(0);
        f.executor.write_steps(claimed.lease(), std::slice::from_ref(&begun)).await.unwrap();
        assert_eq!(crash(&f).await, expected, "a step that is only begun is nothing done");
    }
    let run = f.mcp.find_run(&Caller::local("test"), run).await.unwrap();
    assert_eq!((run.state, run.crashes), (RunState::Quarantined, 6));
    assert!(run.error.unwrap().message.contains("3 times"));
}

#[tokio::test]
async fn an_attempt_that_comes_as_far_as_a_retry_begins_the_count_of_crashes_anew() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 1, json!({})).await;
    for _ in 0..2 {
        claim(&f, 1).await;
        assert_eq!(crash(&f).await, (1, 0));
    }
    let run = claim(&f, 1).await.remove(0);
    assert_eq!(run.crashes_in_row, 2);
    let error = StepFailure::new(ErrorKind::Timeout, "too slow");
    let retry = Conclusion { verdict: Verdict::RetryAfter { delay: Duration::ZERO, error }, ..succeeded(&run) };
    f.executor.conclude_runs(vec![retry]).await.unwrap();
    f.executor.look_ahead(10).await.unwrap();
    let run = claim(&f, 1).await.remove(0);
    assert_eq!((run.crashes, run.crashes_in_row), (2, 0));
}

#[tokio::test]
async fn of_those_one_crash_away_from_quarantine_one_is_claimed_beside_all_the_others() {
    let (f, _database) = Fixture::fresh().await;
    let suspects = pending_runs(&f, 3, json!({ "overlap": "allow" })).await;
    for _ in 0..2 {
        assert_eq!(claim(&f, 10).await.len(), 3);
        assert_eq!(crash(&f).await, (3, 0));
    }
    let local = Caller::local("test");
    let task = f.mcp.find_run(&local, suspects[0]).await.unwrap().task;
    let fresh = f.mcp.run_now(&local, task, "fresh", None).await.unwrap().run;

    let claim_apart = async |most| {
        let apart = Suspects::before(3, most);
        let room = Room { permits: 10, ahead: 0 };
        let claimed = f.executor.claim_runs_apart(Uuid::now_v7(), room, LEASE, i64::MIN, apart).await.unwrap();
        claimed.iter().map(|run| (run.id, apart.include(run))).collect::<Vec<_>>()
    };
    assert_eq!(claim_apart(1).await, [(suspects[0], true), (fresh, false)]);
    assert_eq!(claim_apart(0).await, [], "one is in hand");
    assert_eq!(claim_apart(1).await, [(suspects[1], true)]);
}

#[tokio::test]
async fn a_retry_waits_and_counts_a_failure_and_a_release_counts_nothing() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 1, json!({})).await;
    let run = claim(&f, 1).await.remove(0);
    let release = Conclusion { verdict: Verdict::Released, ..succeeded(&run) };
    f.executor.conclude_runs(vec![release]).await.unwrap();
    let run = claim(&f, 1).await.remove(0);
    assert_eq!((run.attempt, run.failures, run.crashes), (2, 0, 0));

    let error = StepFailure::new(ErrorKind::Timeout, "too slow").at_step("fetch");
    let retry =
        Conclusion { verdict: Verdict::RetryAfter { delay: Duration::ZERO, error: error.clone() }, ..succeeded(&run) };
    f.executor.conclude_runs(vec![retry]).await.unwrap();
    assert!(claim(&f, 1).await.is_empty(), "a waiting run is not claimable");
    assert_eq!(f.executor.look_ahead(10).await.unwrap().woken, 1);
    let run = claim(&f, 1).await.remove(0);
    assert_eq!((run.attempt, run.failures, run.last_error), (3, 1, Some(error)));
    assert_eq!(run.ran_for, Duration::from_millis(10));
}

#[tokio::test]
async fn a_parked_run_holds_no_lease_and_counts_nothing() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 1, json!({})).await;
    let run = claim(&f, 1).await.remove(0);
    let until = f.executor.now().await.unwrap();
    let park = Conclusion { verdict: Verdict::Parked { until }, ..succeeded(&run) };
    assert_eq!(f.executor.conclude_runs(vec![park]).await.unwrap(), [Written::Yes]);
    let waiting = f.mcp.find_run(&Caller::local("test"), run.id).await.unwrap();
    assert_eq!((waiting.state, waiting.wake_at), (RunState::Waiting, Some(until)));
    assert_eq!(f.executor.look_ahead(10).await.unwrap().woken, 1);
    let run = claim(&f, 1).await.remove(0);
    assert_eq!((run.attempt, run.failures, run.crashes), (2, 0, 0));
}

#[tokio::test]
async fn a_wish_to_cancel_is_seen_at_renewal_and_wins_over_a_retry() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    pending_runs(&f, 1, json!({})).await;
    let run = claim(&f, 1).await.remove(0);
    assert_eq!(f.mcp.cancel_run(&local, run.id, None).await.unwrap(), Cancelling::Requested);
    assert!(f.executor.renew_leases(&[run.lease()], LEASE).await.unwrap()[0].cancel_asked);
    let retry = Conclusion {
        verdict: Verdict::RetryAfter { delay: Duration::ZERO, error: StepFailure::new(ErrorKind::Timeout, "too slow") },
        ..succeeded(&run)
    };
    f.executor.conclude_runs(vec![retry]).await.unwrap();
    assert_eq!(f.mcp.find_run(&local, run.id).await.unwrap().state, RunState::Cancelled);
    assert_eq!(f.mcp.cancel_run(&local, run.id, None).await.unwrap(), Cancelling::Over(RunState::Cancelled));
}

#[tokio::test]
async fn the_journal_keeps_the_order_of_first_writes_and_goes_with_the_run() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 1, json!({})).await;
    let run = claim(&f, 1).await.remove(0);
    let lease = run.lease();
    f.executor.write_steps(lease, &[step("b", StepState::Started)]).await.unwrap();
    f.executor.write_steps(lease, &[step("a", StepState::Succeeded)]).await.unwrap();
    f.executor.write_steps(lease, &[step("b", StepState::Succeeded)]).await.unwrap();
    let journal = f.executor.read_journal(run.id).await.unwrap();
    let read: Vec<_> = journal.iter().map(|step| (step.step.as_str(), step.state)).collect();
    assert_eq!(read, [("b", StepState::Succeeded), ("a", StepState::Succeeded)]);

    let pinned = f.executor.pin_run(lease, &json!({ "now": 1 })).await.unwrap();
    assert_eq!(f.executor.pin_run(lease, &json!({ "now": 2 })).await.unwrap(), pinned, "pinned once");

    let conclusion = Conclusion { steps: journal, ..succeeded(&run) };
    f.executor.conclude_runs(vec![conclusion]).await.unwrap();
    assert!(f.executor.read_journal(run.id).await.unwrap().is_empty());
    let kept = f.mcp.find_run(&Caller::local("test"), run.id).await.unwrap();
    assert_eq!(kept.steps.len(), 2);
    assert_eq!(kept.output, json!("done"));
}

#[tokio::test]
async fn one_conclusion_among_others_with_a_lost_lease_is_the_only_one_not_written() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 3, json!({ "overlap": "allow" })).await;
    let runs = claim(&f, 3).await;
    let mut conclusions: Vec<_> = runs.iter().map(succeeded).collect();
    conclusions[1].lease.token = LeaseToken::from_uuid(Uuid::new_v4());
    let written = f.executor.conclude_runs(conclusions).await.unwrap();
    assert_eq!(written, [Written::Yes, Written::LeaseLost, Written::Yes]);
}

#[tokio::test]
async fn failures_in_a_row_pause_the_task_and_a_success_ends_the_row() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    pending_runs(&f, 4, json!({ "overlap": "allow", "pause_after_failures": 2 })).await;
    let runs = claim(&f, 4).await;
    let task = ordinaut_store::tasks::TaskRef::Id(runs[0].task);
    let failed = |run: &ClaimedRun| Conclusion {
        verdict: Verdict::Failed { error: StepFailure::new(ErrorKind::ClientError, "404") },
        ..succeeded(run)
    };
    for (conclusion, failures) in
        [(failed(&runs[0]), 1), (succeeded(&runs[1]), 0), (failed(&runs[2]), 1), (failed(&runs[3]), 2)]
    {
        f.executor.conclude_runs(vec![conclusion]).await.unwrap();
        assert_eq!(f.mcp.find_task(&local, &task).await.unwrap().failures_in_row, failures);
    }
    let task = f.mcp.find_task(&local, &task).await.unwrap();
    assert_eq!(task.paused_because.as_deref(), Some("failed 2 times in a row"));
    assert_eq!(f.mcp.check_inbox(&local, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_run_that_ends_without_a_timeline_keeps_its_journal_and_a_retry_resumes_from_it() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    let fields = json!({ "pipeline": [
        { "id": "a", "uses": "http.post", "with": { "url": "http://example.com" }, "on_error": "fail" },
        { "id": "b", "uses": "http.post", "with": { "url": "http://example.com" }, "on_error": "fail" },
    ] });
    let run = pending_runs(&f, 1, fields).await[0];
    let claimed = claim(&f, 1).await.remove(0);
    let lease = claimed.lease();
    f.executor.write_steps(lease, &[step("a", StepState::Succeeded), step("b", StepState::Started)]).await.unwrap();
    let seen = f.executor.held_leases().await.unwrap();
    assert_eq!(f.executor.recover_runs(&seen, 1).await.unwrap(), (0, 1));

    let dead = f.mcp.find_run(&local, run).await.unwrap();
    assert_eq!(dead.state, RunState::Quarantined);
    let kept: Vec<_> = dead.steps.iter().map(|step| (step.step.as_str(), step.state)).collect();
    assert_eq!(kept, [("a", StepState::Succeeded), ("b", StepState::Started)]);

    let retry = f.mcp.retry_run(&local, run, ordinaut_store::runs::RetryFrom::FailedStep).await.unwrap();
    let journal = f.executor.read_journal(retry).await.unwrap();
    let carried: Vec<_> =
        journal.iter().map(|step| (step.step.as_str(), step.state, step.calls, step.error.is_some())).collect();
    let done_and_asked = [("a", StepState::Succeeded, 1, false), ("b", StepState::Started, 0, true)];
    assert_eq!(carried, done_and_asked, "what is done stays done; the other is to be called again");
    assert_eq!(journal[1].input, dead.steps[1].input, "with the same words");
    let again = claim(&f, 1).await.remove(0);
    assert_eq!((again.id, again.root_run), (retry, run), "its calls keep their keys");
    assert!(again.pinned.is_some_and(|pinned| pinned["now"].is_string()), "and its now");
}

#[tokio::test]
async fn a_stale_and_a_valid_conclusion_of_one_run_in_one_batch_write_the_valid_one() {
    let (f, _database) = Fixture::fresh().await;
    let run = pending_runs(&f, 1, json!({})).await[0];
    let stale = claim(&f, 1).await.remove(0);
    let seen = f.executor.held_leases().await.unwrap();
    f.executor.recover_runs(&seen, 5).await.unwrap();
    let valid = claim(&f, 1).await.remove(0);
    let failed = Conclusion {
        verdict: Verdict::Failed { error: StepFailure::new(ErrorKind::ClientError, "404") },
        ..succeeded(&valid)
    };
    let written = f.executor.conclude_runs(vec![succeeded(&stale), failed]).await.unwrap();
    assert_eq!(written, [Written::LeaseLost, Written::Yes]);
    assert_eq!(f.mcp.find_run(&Caller::local("test"), run).await.unwrap().state, RunState::Failed);
}

#[tokio::test]
async fn a_revoked_agents_planned_runs_are_not_claimed() {
    let (f, _database) = Fixture::fresh().await;
    let other = f.agent("other").await.unwrap();
    let now = f.mcp.now().await.unwrap();
    let definition = accepted_with("theirs", (ScheduleKind::Manual, ""), now, json!({}));
    let (Inserted::Created(task) | Inserted::Existed(task)) =
        f.mcp.insert_task(&other, &definition, None).await.unwrap();
    f.mcp.run_now(&other, task.id, "1", None).await.unwrap();
    f.executor.revoke_agent("other").await.unwrap();
    assert!(claim(&f, 10).await.is_empty());
}

#[tokio::test]
async fn what_is_woken_is_not_waited_for_and_what_is_left_is() {
    let (f, _database) = Fixture::fresh().await;
    pending_runs(&f, 3, json!({ "overlap": "allow" })).await;
    let until = f.executor.now().await.unwrap();
    for run in claim(&f, 3).await {
        let park = Conclusion { verdict: Verdict::Parked { until }, ..succeeded(&run) };
        f.executor.conclude_runs(vec![park]).await.unwrap();
    }
    let first = f.executor.look_ahead(2).await.unwrap();
    assert_eq!((first.woken, first.next_due_at), (2, Some(until)));
    let second = f.executor.look_ahead(2).await.unwrap();
    assert_eq!((second.woken, second.next_due_at), (1, None));
    assert_eq!(claim(&f, 3).await.len(), 3);
}
