//! Redis is emptied, and told of new events before anybody looks; and what nobody says is new is told all the same.

use ordinaut_schema::{id::TaskId, schedule::ScheduleKind};
use serde_json::json;

use crate::support::{House, eventually};

/// What the stream holds of the outbox, in order, each event once: told twice is no more.
async fn told(house: &House) -> Vec<(String, String)> {
    let mut events: Vec<_> = house
        .stream("ordinaut:events")
        .await
        .into_iter()
        .filter_map(|event| Some((event.fields.get("sequence")?.parse::<i64>().ok()?, event)))
        .collect();
    events.sort_by_key(|(sequence, _)| *sequence);
    events.dedup_by_key(|(sequence, _)| *sequence);
    events.into_iter().map(|(_, event)| (event.topic, event.fields["run"].clone())).collect()
}

async fn whole(house: &House, runs: usize) {
    eventually("all of the window is told", async || {
        let told = told(house).await;
        let topics: Vec<&str> = told.iter().map(|(topic, _)| topic.as_str()).collect();
        let expected: Vec<&str> = std::iter::once("task.created").chain(vec!["run.succeeded"; runs]).collect();
        (topics == expected).then_some(())
    })
    .await;
}

async fn quick_task(house: &House) -> TaskId {
    let step = json!({ "id": "a", "uses": "data.transform", "with": { "expr": "now" } });
    house.task("told", (ScheduleKind::Manual, ""), json!({ "pipeline": [step] })).await
}

#[tokio::test]
async fn events_told_right_after_redis_was_emptied_hide_nothing() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let task = quick_task(&house).await;
    house.ended(house.run_now(&task, "before").await).await;
    whole(&house, 1).await;

    house.empty_redis().await;
    house.ended(house.run_now(&task, "after").await).await;
    whole(&house, 2).await;
    let stream = house.stream("ordinaut:events").await;
    let sequences = stream.iter().filter_map(|event| event.fields.get("sequence")?.parse::<i64>().ok());
    assert!(sequences.is_sorted(), "nothing is told to a stream that nobody filled: {stream:?}");
}

#[tokio::test]
async fn a_stream_that_somebody_else_made_is_not_taken_for_the_one_that_was_filled() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let task = quick_task(&house).await;
    house.ended(house.run_now(&task, "before").await).await;
    whole(&house, 1).await;

    house.empty_redis_and_tell("from.elsewhere").await;
    house.ended(house.run_now(&task, "after").await).await;
    whole(&house, 2).await;
}

/// Whoever recorded them died before it could say so.
#[tokio::test]
async fn events_that_nobody_hinted_at_are_told() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    house.ended(house.run_now(&quick_task(&house).await, "before").await).await;
    whole(&house, 1).await;
    let unsaid = "insert into outbox (agent_id, topic, payload) select agent_id, topic, payload from outbox where topic = 'run.succeeded'";
    house.run_sql(unsaid).await;
    whole(&house, 2).await;
}
