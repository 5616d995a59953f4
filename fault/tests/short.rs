//! The short form of the faults that the promise rests on: each in a lab of its own, judged by every invariant.
//!
//! `./just fault` has the rest, and the full sizes.

use ordinaut_fault::{
    faults::{Size, named},
    report,
};

async fn holds(name: &str) {
    let report = named(name).expect("a fault of that name").run(Size::Short).await;
    let told = report::json(&report);
    assert!(report.outcome.is_clean(), "{told:#}");
    // What was left out shows nothing; here nothing is left out that could be done.
    assert!(told["runs"].as_u64().is_some_and(|runs| runs > 0), "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_killed_executors_are_ended_by_others_and_nothing_is_lost_or_doubled() {
    holds("kill").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_slept_through_its_leases_writes_nothing_when_it_wakes() {
    holds("stop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_postgres_that_is_killed_again_and_again() {
    holds("postgres-kill").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_and_the_same_request_cause_one_run_however_often_they_come() {
    holds("again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_neither_repeated_nor_forgotten() {
    holds("link-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_postgres_refuses_fails_alone() {
    holds("refused-row").await;
}
