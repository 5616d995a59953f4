//! Runs that wait for an answer, an instant or another try.

use jiff::SignedDuration;
use ordinaut_schema::run::{ErrorKind, RunState};
use ordinaut_store::{
    Caller,
    approvals::{Authority, Decision},
    runs::RunRecord,
};
use serde_json::json;

use super::kill_9;
use crate::support::lab::{Lab, me, output, until};

const PARKED: [(&str, &str); 3] = [
    ("asks", "{ id: park, uses: approval.request, with: { message: 'Go on?', data: [1], timeout: 3d } }"),
    ("waits", "{ id: park, uses: wait.for, with: { duration: 1d } }"),
    (
        "retries",
        "{ id: park, uses: http.get, with: { url: SINK/stumble/again }, \
         retry: { max_attempts: 2, backoff: fixed, initial: 1d, max: 1d } }",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn parked_runs_hold_no_slot_and_survive_their_executor() {
    let Some(lab) = Lab::at("2027-01-01T12:00:00Z").await else { return };
    let one_permit = [("ORDINAUT_PERMITS".into(), "1".into())];
    let victim = lab.executor_with("victim", &one_permit);
    let mut runs = Vec::new();
    for (title, step) in PARKED {
        let steps = "{ id: before, uses: http.post, with: { url: SINK/hit/before } }";
        let after = "{ id: after, uses: data.transform, with: { expr: '`7`' } }";
        let task = format!("{{ title: {title}, schedule_kind: manual, pipeline: [{steps}, {step}, {after}] }}");
        runs.push(lab.run_now(lab.keep(&task).await, title).await);
    }
    let found = async || -> Vec<RunRecord> {
        let mut found = Vec::new();
        for run in &runs {
            found.push(lab.store.find_run(&me(), *run).await.unwrap());
        }
        found
    };
    let are_parked = |runs: &[RunRecord]| runs.iter().all(|run| run.state == RunState::Waiting);
    until("three parked runs", async || are_parked(&found().await).then_some(())).await;

    let busy = lab
        .keep("{ title: busy, schedule_kind: manual, pipeline: [{ uses: http.get, with: { url: SINK/hold/busy } }] }");
    let busy = lab.run_now(busy.await, "busy").await;
    lab.sink.saw("busy", 1).await;
    let before = found().await;
    assert!(are_parked(&before), "the only slot is another's");
    assert_eq!(before.iter().map(|run| run.attempts).collect::<Vec<_>>(), [1, 1, 1]);
    kill_9(victim).await;

    let _survivor = lab.executor_with("survivor", &one_permit);
    lab.sink.let_go();
    assert_eq!(lab.end_of(busy).await.state, RunState::Succeeded, "what ran is recovered");
    let after = found().await;
    let stand = |run: &RunRecord| (run.state, run.attempts, run.crashes, run.wake_at, run.steps.len());
    assert_eq!(after.iter().map(stand).collect::<Vec<_>>(), before.iter().map(stand).collect::<Vec<_>>());

    let asked = lab.store.list_approvals(None, 10).await.unwrap().remove(0);
    let yes = Decision { approve: true, comment: None, items: None, shown_sha256: asked.shown_sha256.clone() };
    lab.store.answer_approval(&Caller::local("cli"), Authority::Person, asked.id, &yes).await.unwrap();
    let approved = lab.end_of(runs[0]).await;
    assert!(are_parked(&found().await[1..]), "nobody else is woken by it");
    lab.leap(SignedDuration::from_hours(25)).await;
    let ended = [approved, lab.end_of(runs[1]).await, lab.end_of(runs[2]).await];
    for run in &ended {
        assert_eq!((run.state, run.attempts, run.crashes), (RunState::Succeeded, 2, 0), "{:?}", run.error);
        assert_eq!(run.output, json!(7));
    }
    assert_eq!(output(&ended[0], "park")["approved_items"], json!([1]));
    assert_eq!(before[2].steps[1].error.as_ref().unwrap().kind, ErrorKind::ServerError);
    assert_eq!((ended[2].failures, lab.sink.calls("again").len()), (1, 2));
    assert_eq!(lab.sink.calls("before").len(), 3, "what came before a park is not repeated");
}
