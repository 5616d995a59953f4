//! Hints: heard, coalesced, and never lost for long.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use ordinaut_schema::schedule::ScheduleKind;
use ordinaut_store::{
    Caller,
    testing::{Fixture, accepted, accepted_with},
    wakeups::Hint,
};
use serde_json::json;

const LONG: Duration = Duration::from_secs(30);

async fn hint(fixture: &Fixture, title: &str, every: &str) -> Timestamp {
    let now = fixture.executor.now().await.unwrap();
    let definition = accepted(title, (ScheduleKind::Interval, every), now);
    fixture.mcp.insert_task(&Caller::local("test"), &definition, None).await.unwrap();
    now
}

#[tokio::test]
async fn a_burst_of_hints_is_heard_as_its_earliest() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut listener = fixture.executor.listen().await.unwrap();
    let start = fixture.executor.now().await.unwrap();
    for n in 2..12 {
        hint(&fixture, &format!("Task {n}"), &format!("{n}h")).await;
    }
    let earliest = start + 2.hours();
    // One hint or several: the earliest instant of all is heard, and none before it (intervals count whole seconds).
    let mut heard = listener.next(LONG).await.expect("a hint within 30 s");
    while heard > Hint::Due(earliest + 30.minutes()) {
        heard = heard.min(listener.next(LONG).await.expect("a hint within 30 s"));
    }
    assert!(heard >= Hint::Due(earliest - 1.second()));
}

#[tokio::test]
async fn silence_ends_with_its_limit() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut listener = fixture.executor.listen().await.unwrap();
    assert_eq!(listener.next(Duration::from_millis(1)).await, None);
    assert_eq!(listener.next(Duration::ZERO).await, None);
}

#[tokio::test]
async fn a_listener_whose_connection_breaks_says_look_now_and_hears_again() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut listener = fixture.executor.listen().await.unwrap();
    let ended: i64 = sqlx::query_scalar(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and query like 'LISTEN %'",
    )
    .fetch_one(&fixture.owner)
    .await
    .unwrap();
    assert_eq!(ended, 1);
    let now = fixture.executor.now().await.unwrap();
    let heard = listener.next(LONG).await.expect("a broken connection is a hint");
    assert!(heard < Hint::Due(now), "whatever was missed is to be looked for now");

    let start = hint(&fixture, "After", "2h").await;
    let heard = listener.next(LONG).await.expect("a hint within 30 s");
    assert!(heard >= Hint::Due(start + 1.hour()));
}

#[tokio::test]
async fn a_run_that_an_own_event_causes_is_hinted_at() {
    let (fixture, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    let now = fixture.executor.now().await.unwrap();
    // Its own creation is such an event, too: without `allow` the second run would be blocked behind that one's.
    let listening =
        accepted_with("Listening", (ScheduleKind::Event, "task.created"), now, json!({ "overlap": "allow" }));
    fixture.mcp.insert_task(&local, &listening, None).await.unwrap();
    let mut listener = fixture.executor.listen().await.unwrap();
    // Nothing of this one is ever due: what is hinted at is the run that its creation causes.
    fixture.mcp.insert_task(&local, &accepted("Other", (ScheduleKind::Manual, ""), now), None).await.unwrap();
    assert_eq!(listener.next(LONG).await, Some(Hint::Claimable));
}

/// The fixture's stores are as those of two processes.
#[tokio::test]
async fn whoever_relays_is_told_of_events_of_its_own_process_and_of_others() {
    let (fixture, _database) = Fixture::fresh().await;
    let relay = &fixture.executor;
    let told = async || tokio::time::timeout(LONG, relay.told()).await.expect("it is told within 30 s");
    let mut listener = relay.listen().await.unwrap();
    let hearing = async { while listener.next(LONG).await.is_some() {} };
    let other = async {
        hint(&fixture, "Of another process", "2h").await;
        told().await;
    };
    tokio::select! {
        () = hearing => panic!("nothing is heard any more"),
        () = other => {}
    }
    // Nobody listens any more, and what is told here needs no listener.
    let now = relay.now().await.unwrap();
    relay.insert_task(&Caller::local("test"), &accepted("Own", (ScheduleKind::Manual, ""), now), None).await.unwrap();
    told().await;
}
