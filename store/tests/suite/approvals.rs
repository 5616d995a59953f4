//! Approvals: who may answer, what an answer is about, and that the first one counts.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    action::parking::{ApprovalRequest, ApprovalState, OnTimeout},
    id::ApprovalId,
    run::{RunState, Verdict},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, Store, StoreError,
    approvals::{Approval, Authority, Decision, NewApproval},
    claims::ClaimedRun,
    conclusions::Conclusion,
    tasks::Inserted,
    testing::{Fixture, accepted},
};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

/// A run in an executor's hands, and what it asks.
async fn asked(f: &Fixture, timeout: Duration) -> (ClaimedRun, Approval) {
    let local = Caller::local("test");
    let now = f.executor.now().await.unwrap();
    let task = match f.mcp.insert_task(&local, &accepted("asks", (ScheduleKind::Manual, ""), now), None).await.unwrap()
    {
        Inserted::Created(task) | Inserted::Existed(task) => task.id,
    };
    f.mcp.run_now(&local, task, "x", None).await.unwrap();
    let one = NonZeroU16::new(1).unwrap();
    let run = f.executor.claim_runs(Uuid::from_u128(1), one, Duration::from_mins(1), i64::MIN).await.unwrap().remove(0);
    let approval = f.executor.request_approval(&request(&run, timeout)).await.unwrap();
    (run, approval)
}

fn request(run: &ClaimedRun, timeout: Duration) -> NewApproval {
    NewApproval {
        agent: run.agent,
        task: run.task,
        run: run.id,
        key: format!("{}/ask", run.root_run),
        cause_depth: 0,
        request: ApprovalRequest {
            message: "Send?".to_owned(),
            // In another order than PostgreSQL keeps them.
            data: json!({ "subject": "Hello", "items": [{ "to": "ann", "b": 1 }, { "to": "bob" }] }),
            timeout,
            on_timeout: OnTimeout::Reject,
        },
    }
}

fn yes(approval: &Approval) -> Decision {
    Decision { approve: true, comment: None, items: None, shown_sha256: approval.shown_sha256.clone() }
}

async fn by_person(store: &Store, id: ApprovalId, decision: &Decision) -> Result<Approval, StoreError> {
    store.answer_approval(&Caller::local("cli"), Authority::Person, id, decision).await
}

fn reason(refused: Result<Approval, StoreError>) -> String {
    match refused.unwrap_err() {
        StoreError::ApprovalRefused { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn an_answer_that_comes_while_the_run_is_being_parked_is_not_lost() {
    let (f, _database) = Fixture::fresh().await;
    let (run, approval) = asked(&f, HOUR).await;
    by_person(&f.executor, approval.id, &yes(&approval)).await.unwrap();
    let park = Conclusion {
        lease: run.lease(),
        verdict: Verdict::Parked { until: approval.expires_at },
        steps: Vec::new(),
        ran_for: Duration::ZERO,
    };
    f.executor.conclude_runs(vec![park]).await.unwrap();
    assert_eq!(f.executor.look_ahead(10).await.unwrap().woken, 1);
    let found = f.mcp.find_run(&Caller::local("test"), run.id).await.unwrap();
    assert_eq!(found.state, RunState::Pending);
}

#[tokio::test]
async fn a_run_that_was_woken_before_its_claim_waits_when_it_is_parked_again() {
    let (f, _database) = Fixture::fresh().await;
    let (run, approval) = asked(&f, HOUR).await;
    let park = |run: &ClaimedRun| Conclusion {
        lease: run.lease(),
        verdict: Verdict::Parked { until: approval.expires_at },
        steps: Vec::new(),
        ran_for: Duration::ZERO,
    };
    f.executor.conclude_runs(vec![park(&run)]).await.unwrap();
    by_person(&f.executor, approval.id, &yes(&approval)).await.unwrap();
    assert_eq!(f.executor.look_ahead(10).await.unwrap().woken, 1);
    let one = NonZeroU16::new(1).unwrap();
    let again = f.executor.claim_runs(Uuid::from_u128(1), one, HOUR, i64::MIN).await.unwrap().remove(0);
    // It saw the answer, and its next step waits for something else.
    f.executor.conclude_runs(vec![park(&again)]).await.unwrap();
    assert_eq!(f.executor.look_ahead(10).await.unwrap().woken, 0);
}

#[tokio::test]
async fn of_answers_at_once_exactly_one_counts() {
    let (f, _database) = Fixture::fresh().await;
    let (_run, approval) = asked(&f, HOUR).await;
    let mut answers = JoinSet::new();
    for n in 0..8 {
        let (store, approval) = (f.executor.clone(), approval.clone());
        answers.spawn(async move {
            let decision = Decision { approve: n % 2 == 0, ..yes(&approval) };
            let caller = Caller::local(&format!("person {n}"));
            store.answer_approval(&caller, Authority::Person, approval.id, &decision).await
        });
    }
    let mut counted = Vec::new();
    while let Some(answered) = answers.join_next().await {
        match answered.unwrap() {
            Ok(approval) => counted.push(approval),
            refused => assert!(reason(refused).contains("first answer counts")),
        }
    }
    assert_eq!(counted.len(), 1);
    let kept = f.mcp.find_approval(&Caller::local("x"), approval.id).await.unwrap();
    assert_eq!((kept.state, &kept.answered_by), (counted[0].state, &counted[0].answered_by));
}

#[tokio::test]
async fn whoever_owns_the_task_does_not_decide_and_another_agent_does_and_is_in_the_audit_log() {
    let (f, _database) = Fixture::fresh().await;
    let (_run, approval) = asked(&f, HOUR).await;
    let owner = Caller::local("a token with approval:answer");
    let refused = f.mcp.answer_approval(&owner, Authority::Principal, approval.id, &yes(&approval)).await;
    assert!(reason(refused).contains("owns the task"));

    let phone = f.agent("phone").await.unwrap();
    assert_eq!(f.mcp.approvals_of_others(owner.agent, 10).await.unwrap(), []);
    assert_eq!(f.mcp.approvals_of_others(phone.agent, 10).await.unwrap(), std::slice::from_ref(&approval));
    // It is shown to be answered, and is nobody else's for all that.
    assert!(matches!(f.mcp.find_approval(&phone, approval.id).await, Err(StoreError::ApprovalNotFound(_))));
    let answered = f.mcp.answer_approval(&phone, Authority::Principal, approval.id, &yes(&approval)).await.unwrap();
    assert_eq!((answered.state, answered.approved_items), (ApprovalState::Approved, approval.data["items"].clone()));
    let line =
        sqlx::query_as::<_, (String, Uuid)>("select principal, agent_id from audit_log where verb = 'answer_approval'");
    assert_eq!(line.fetch_one(&f.owner).await.unwrap(), ("phone".to_owned(), owner.agent.uuid()));
}

#[tokio::test]
async fn an_answer_is_about_what_was_shown_and_comes_in_time() {
    let (f, _database) = Fixture::fresh().await;
    let (run, approval) = asked(&f, HOUR).await;
    let other = Decision { shown_sha256: "0".repeat(64), ..yes(&approval) };
    assert!(reason(by_person(&f.mcp, approval.id, &other).await).contains("SHA-256"));
    for items in [vec![0], vec![1, 3]] {
        let beyond = Decision { items: Some(items), ..yes(&approval) };
        assert!(reason(by_person(&f.mcp, approval.id, &beyond).await).contains("no item"));
    }
    // The same call asks nothing new, and has the same hash after its way through the database.
    let again = f.executor.request_approval(&request(&run, HOUR)).await.unwrap();
    assert_eq!((again.id, &again.shown_sha256), (approval.id, &approval.shown_sha256));

    sqlx::query("update approval set expires_at = now() - interval '1 second'").execute(&f.owner).await.unwrap();
    assert!(reason(by_person(&f.mcp, approval.id, &yes(&approval)).await).contains("ended"));
    let due = f.executor.request_approval(&request(&run, HOUR)).await.unwrap();
    assert_eq!((due.id, due.state), (approval.id, ApprovalState::TimedOut));
    assert!(reason(by_person(&f.mcp, approval.id, &yes(&approval)).await).contains("nobody answered"));
    let topics = f.topics(Some(run.task)).await;
    assert_eq!(topics[1..], ["approval.requested", "inbox.posted", "approval.answered"]);
}

#[tokio::test]
async fn another_payload_under_the_same_key_is_asked_anew() {
    let (f, _database) = Fixture::fresh().await;
    let (run, approval) = asked(&f, HOUR).await;
    by_person(&f.mcp, approval.id, &yes(&approval)).await.unwrap();
    let mut other = request(&run, HOUR);
    other.request.data = json!({ "items": [{ "to": "eve" }] });
    let anew = f.executor.request_approval(&other).await.unwrap();
    assert_ne!(anew.id, approval.id);
    assert_eq!(anew.state, ApprovalState::Waiting);
}

#[tokio::test]
async fn a_link_leads_to_one_approval_and_its_token_is_not_kept() {
    let (f, _database) = Fixture::fresh().await;
    let (_run, approval) = asked(&f, HOUR).await;
    let token = f.executor.link_approval(approval.id).await.unwrap();
    assert_eq!(token.len(), 64);
    assert_eq!(f.mcp.approval_of_link(&token).await.unwrap(), Some(approval.clone()));
    assert_eq!(f.mcp.approval_of_link("no such token").await.unwrap(), None);
    // Not the agents' side: it can neither make one nor look at them.
    assert!(f.mcp.link_approval(approval.id).await.is_err());
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("select token_sha256 from approval_link").fetch_all(&f.owner).await.unwrap();
    assert!(kept.iter().all(|digest| hex::encode(digest) != token));
    by_person(&f.mcp, approval.id, &yes(&approval)).await.unwrap();
    assert!(f.executor.link_approval(approval.id).await.is_err(), "there is nothing left to decide");
}

#[tokio::test]
async fn what_was_decided_is_forgotten_with_its_history_and_what_waits_is_not() {
    let (f, _database) = Fixture::fresh().await;
    let (_run, approval) = asked(&f, HOUR).await;
    let kept = ordinaut_store::retention::Retention { history: Duration::ZERO, outbox: HOUR, outbox_bytes: u64::MAX };
    let old = "update approval set expires_at = now() - interval '1 minute'";
    sqlx::query(old).execute(&f.owner).await.unwrap();
    f.executor.drop_old(kept).await.unwrap();
    f.mcp.find_approval(&Caller::local("x"), approval.id).await.unwrap();
    sqlx::query("update approval set state = 'timed_out'").execute(&f.owner).await.unwrap();
    f.executor.drop_old(kept).await.unwrap();
    let gone = f.mcp.find_approval(&Caller::local("x"), approval.id).await;
    assert!(matches!(gone, Err(StoreError::ApprovalNotFound(_))));
}
