//! What the operator offers, as published, and the calls of a day.

use ordinaut_schema::action::{Grants, Offered, Takes};
use ordinaut_store::{Caller, testing::Fixture};
use tokio::task::JoinSet;

fn offered(channels: &[&str]) -> Offered {
    Offered {
        channels: channels.iter().map(|name| ((*name).to_owned(), "slack".to_owned())).collect(),
        models: [("big".to_owned(), "x".to_owned()), ("small".to_owned(), "y".to_owned())].into(),
        default_model: Some("small".to_owned()),
        commands: [("backup".to_owned(), "Backs up".to_owned()), ("older".to_owned(), "Of before".to_owned())].into(),
        takes: [("backup".to_owned(), Takes { args: true, stdin: false })].into(),
        ..Offered::default()
    }
}

#[tokio::test]
async fn what_is_published_is_read_in_both_roles_and_replaced_as_a_whole() {
    let (fixture, _database) = Fixture::fresh().await;
    fixture.executor.set_offered(&offered(&["team", "ops"])).await.unwrap();
    assert_eq!(fixture.mcp.offered().await.unwrap(), offered(&["team", "ops"]));
    fixture.executor.set_offered(&offered(&["ops"])).await.unwrap();
    let caller = Caller::local("test");
    assert_eq!(fixture.mcp.catalogue(&caller).await.unwrap().offered, offered(&["ops"]));
    fixture.mcp.set_offered(&offered(&[])).await.unwrap_err();
    assert_eq!(fixture.mcp.offered().await.unwrap(), offered(&["ops"]));
}

#[tokio::test]
async fn executors_that_publish_at_once_leave_what_one_of_them_published() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut publishers = JoinSet::new();
    for n in 0..8 {
        let store = fixture.executor.clone();
        let names = if n % 2 == 0 { ["a", "b"] } else { ["c", "d"] };
        publishers.spawn(async move { store.set_offered(&offered(&names)).await });
    }
    while let Some(published) = publishers.join_next().await {
        published.unwrap().unwrap();
    }
    let last = fixture.mcp.offered().await.unwrap();
    assert!(last == offered(&["a", "b"]) || last == offered(&["c", "d"]), "{last:?}");
}

#[tokio::test]
async fn calls_of_a_day_stop_at_the_limit_however_many_ask_at_once() {
    let (fixture, _database) = Fixture::fresh().await;
    let other = fixture.agent("other").await.unwrap().agent;
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let store = fixture.executor.clone();
        callers.spawn(async move { store.count_call(Caller::LOCAL_AGENT, "notify.send", 5).await });
    }
    let mut counted = 0;
    while let Some(within) = callers.join_next().await {
        counted += usize::from(within.unwrap().unwrap());
    }
    assert_eq!(counted, 5);
    assert!(fixture.executor.count_call(Caller::LOCAL_AGENT, "llm.generate", 5).await.unwrap());
    assert!(fixture.executor.count_call(other, "notify.send", 5).await.unwrap());
    assert!(fixture.mcp.count_call(other, "notify.send", 5).await.is_err(), "MCP counts nothing");

    sqlx::query("update daily_calls set day = day - 1").execute(&fixture.owner).await.unwrap();
    assert!(fixture.executor.count_call(Caller::LOCAL_AGENT, "notify.send", 5).await.unwrap(), "a new day");
    sqlx::query("update daily_calls set day = day - 8").execute(&fixture.owner).await.unwrap();
    fixture.executor.count_call(Caller::LOCAL_AGENT, "notify.send", 5).await.unwrap();
    let rows: i64 = sqlx::query_scalar("select count(*) from daily_calls where agent_id = $1")
        .bind(Caller::LOCAL_AGENT.uuid())
        .fetch_one(&fixture.owner)
        .await
        .unwrap();
    assert_eq!(rows, 1, "days long gone are dropped");
}

#[tokio::test]
async fn a_change_of_grants_is_kept_and_written_down() {
    let (fixture, _database) = Fixture::fresh().await;
    let grants = Grants { tools: vec!["github".to_owned()], ..Grants::default() };
    fixture.executor.add_agent("phone", None, &grants, &[], None).await.unwrap();
    let now = fixture.executor.change_grants("phone", |grants| grants.channels.push("ops".to_owned())).await.unwrap();
    assert_eq!((now.tools.as_slice(), now.channels.as_slice()), (&["github".to_owned()][..], &["ops".to_owned()][..]));
    let listed = fixture.executor.list_agents().await.unwrap();
    assert_eq!(listed.iter().find(|agent| agent.name == "phone").unwrap().grants, now);
    let verbs: Vec<String> =
        sqlx::query_scalar("select verb from audit_log order by id").fetch_all(&fixture.owner).await.unwrap();
    assert_eq!(verbs.last().unwrap(), "change_grants");
    fixture.executor.change_grants("nobody", |_| {}).await.unwrap_err();
}
