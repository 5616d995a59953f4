//! The outbox as the relay reads it.

use std::time::Duration;

use ordinaut_schema::id::{LeaseToken, Shard};
use ordinaut_store::{
    Caller,
    inbox::NewMessage,
    outbox::{OutboxEvent, Position},
    testing::Fixture,
};
use sqlx::types::Uuid;

const SHARD: Shard = Shard(0);
const LEASE: Duration = Duration::from_mins(1);

fn token(n: u128) -> LeaseToken {
    LeaseToken::from_uuid(Uuid::from_u128(n))
}

async fn post(fixture: &Fixture, key: &str) {
    let message = NewMessage {
        agent: Caller::LOCAL_AGENT,
        task: None,
        run: None,
        key: key.to_owned(),
        level: "info".to_owned(),
        title: None,
        body: key.to_owned(),
        cause_depth: 0,
    };
    fixture.executor.post_message(&message).await.unwrap();
}

/// Reads until `enough` events are below every open transaction, those of other tests on the server included.
async fn read(fixture: &Fixture, after: Position, enough: usize) -> Vec<OutboxEvent> {
    let wait = async {
        loop {
            let events = fixture.executor.read_outbox(SHARD, after, 100).await.unwrap().events;
            if events.len() >= enough {
                return events;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("the events within 60 s")
}

fn bodies(events: &[OutboxEvent]) -> Vec<&str> {
    events.iter().map(|event| event.payload["body"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn events_are_read_in_order_and_never_past_an_open_transaction() {
    let (fixture, _database) = Fixture::fresh().await;
    post(&fixture, "a").await;
    let mut open = fixture.owner.begin().await.unwrap();
    sqlx::query("insert into outbox (agent_id, topic, payload) values ($1, 'x', '{\"body\": \"late\"}')")
        .bind(Caller::LOCAL_AGENT.uuid())
        .execute(&mut *open)
        .await
        .unwrap();
    post(&fixture, "b").await;

    let before = read(&fixture, Position::default(), 1).await;
    assert_eq!(bodies(&before), ["a"], "b is committed, and waits for the one that is open");
    let held = fixture.executor.read_outbox(SHARD, before[0].position, 100).await.unwrap();
    assert!(held.is_held_up && held.events.is_empty(), "{held:?}");
    open.commit().await.unwrap();
    let after = read(&fixture, before[0].position, 2).await;
    assert_eq!(bodies(&after), ["late", "b"], "nothing was overtaken");
    assert!(before[0].position < after[0].position && after[0].position < after[1].position);
    assert_eq!(after[1].topic, "inbox.posted");
    assert!(fixture.executor.read_outbox(SHARD, after[1].position, 100).await.unwrap().events.is_empty());
    assert_eq!(fixture.executor.read_outbox(SHARD, Position::default(), 2).await.unwrap().events.len(), 2);
    assert!(fixture.executor.read_outbox(Shard(1), Position::default(), 2).await.unwrap().events.is_empty());
}

#[tokio::test]
async fn one_relay_at_a_time_holds_a_shard_and_a_lost_lease_moves_nothing() {
    let (fixture, _database) = Fixture::fresh().await;
    let store = &fixture.executor;
    post(&fixture, "a").await;
    let told = read(&fixture, Position::default(), 1).await[0].position;

    let mut first = store.take_relay(SHARD, token(1), LEASE).await.unwrap().expect("nobody holds it");
    assert_eq!(first.told, Position::default());
    assert!(store.take_relay(SHARD, token(2), LEASE).await.unwrap().is_none());
    first.told = told;
    first.redis_run_id = Some("r1".to_owned());
    first.last_stream_id = Some("1-1".to_owned());
    assert!(store.move_relay(SHARD, &first).await.unwrap());

    let renewed = store.take_relay(SHARD, token(1), Duration::ZERO).await.unwrap().expect("its own");
    assert_eq!((renewed.told, renewed.redis_run_id.as_deref()), (told, Some("r1")));
    let second = store.take_relay(SHARD, token(2), LEASE).await.unwrap().expect("the lease ended");
    assert_eq!((second.told, second.last_stream_id.as_deref()), (told, Some("1-1")));
    assert!(!store.move_relay(SHARD, &first).await.unwrap());
}

#[tokio::test]
async fn a_position_from_another_cluster_starts_over() {
    let (fixture, _database) = Fixture::fresh().await;
    sqlx::query("update relay_position set xid = '9000000000000000000', id = 77")
        .execute(&fixture.owner)
        .await
        .unwrap();
    let taken = fixture.executor.take_relay(SHARD, token(1), LEASE).await.unwrap().unwrap();
    assert_eq!(taken.told, Position::default());
}

#[tokio::test]
async fn what_another_cluster_recorded_is_told_before_the_counter_has_come_so_far() {
    let (fixture, database) = Fixture::fresh().await;
    for key in ["a", "b"] {
        post(&fixture, key).await;
    }
    let shown = fixture.mcp.check_inbox(&Caller::local("test"), None, 1).await.unwrap();
    for restored in ["update outbox set xid = '9000000000000000000'", "update inbox set xid = '9000000000000000000'"] {
        sqlx::query(restored).execute(&fixture.owner).await.unwrap();
    }
    sqlx::query("update inbox set shown_in = '9000000000000000001:9000000000000000001:' where id = $1")
        .bind(shown[0].id.uuid())
        .execute(&fixture.owner)
        .await
        .unwrap();
    assert!(fixture.executor.read_outbox(SHARD, Position::default(), 10).await.unwrap().events.is_empty());

    ordinaut_store::migrate(&database.url).await.unwrap();
    post(&fixture, "c").await;
    assert_eq!(bodies(&read(&fixture, Position::default(), 3).await), ["a", "b", "c"]);
    // The page that ended at `b` is acknowledged whole: what came with the dump is not taken for unseen.
    let page = fixture.mcp.check_inbox(&Caller::local("test"), None, 2).await.unwrap();
    let rest = fixture.mcp.check_inbox(&Caller::local("test"), Some(page[1].id), 10).await.unwrap();
    assert_eq!(rest.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn a_relay_that_was_gone_when_the_clock_went_back_is_not_waited_for() {
    let (fixture, _database) = Fixture::fresh().await;
    let store = &fixture.executor;
    assert!(store.take_relay(SHARD, token(1), LEASE).await.unwrap().is_some());
    // An hour back for the server's clock is an hour on for what it wrote before.
    sqlx::query("update relay_position set lease_expires_at = lease_expires_at + interval '1 hour'")
        .execute(&fixture.owner)
        .await
        .unwrap();
    assert!(store.take_relay(SHARD, token(2), LEASE).await.unwrap().is_some());
}
