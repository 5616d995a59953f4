//! The inbox: posted once, shown until acknowledged, never lost behind a late commit.

use ordinaut_schema::id::MessageId;
use ordinaut_store::{
    Caller,
    inbox::{Message, NewMessage},
    testing::Fixture,
};
use tokio::task::JoinSet;

fn me() -> Caller {
    Caller::local("test")
}

fn message(caller: &Caller, key: &str) -> NewMessage {
    NewMessage {
        agent: caller.agent,
        task: None,
        run: None,
        key: key.to_owned(),
        level: "info".to_owned(),
        title: None,
        body: format!("about {key}"),
        cause_depth: 1,
    }
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

#[tokio::test]
async fn posting_again_under_a_key_changes_nothing() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut posts = JoinSet::new();
    for _ in 0..6 {
        let store = fixture.executor.clone();
        posts.spawn(async move { store.post_message(&message(&me(), "run/step")).await.unwrap() });
    }
    let ids = posts.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(fixture.topics(None).await, ["inbox.posted"]);
    assert_eq!(fixture.mcp.check_inbox(&me(), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_is_shown_until_it_is_acknowledged() {
    let (fixture, _database) = Fixture::fresh().await;
    for key in ["a", "b", "c"] {
        fixture.executor.post_message(&message(&me(), key)).await.unwrap();
    }
    let page = fixture.mcp.check_inbox(&me(), None, 2).await.unwrap();
    assert_eq!(bodies(&page), ["about a", "about b"]);
    assert_eq!(bodies(&fixture.mcp.check_inbox(&me(), None, 2).await.unwrap()), ["about a", "about b"]);
    let rest = fixture.mcp.check_inbox(&me(), Some(page[1].id), 2).await.unwrap();
    assert_eq!(bodies(&rest), ["about c"]);
    assert!(fixture.mcp.check_inbox(&me(), Some(rest[0].id), 2).await.unwrap().is_empty());
    // Asked again after a lost answer, and with an id that is no message: nothing happens.
    assert!(fixture.mcp.check_inbox(&me(), Some(rest[0].id), 2).await.unwrap().is_empty());
    assert!(fixture.mcp.check_inbox(&me(), Some(MessageId::new()), 2).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_committed_late_under_an_earlier_id_is_not_taken_for_shown() {
    let (fixture, _database) = Fixture::fresh().await;
    // Its id is drawn first, and its transaction is still open when the next one is posted and shown.
    let mut late = fixture.owner.begin().await.unwrap();
    sqlx::query("insert into inbox (id, agent_id, key, level, body) values ($1, $2, 'late', 'info', 'about late')")
        .bind(MessageId::new().uuid())
        .bind(me().agent.uuid())
        .execute(&mut *late)
        .await
        .unwrap();
    fixture.executor.post_message(&message(&me(), "early")).await.unwrap();
    let shown = fixture.mcp.check_inbox(&me(), None, 10).await.unwrap();
    assert_eq!(bodies(&shown), ["about early"]);
    late.commit().await.unwrap();

    // Another chat looks in between, and is shown both; the first one knows of one only.
    assert_eq!(fixture.mcp.check_inbox(&me(), None, 10).await.unwrap().len(), 2);
    let next = fixture.mcp.check_inbox(&me(), Some(shown[0].id), 10).await.unwrap();
    assert_eq!(bodies(&next), ["about late"]);
    assert!(fixture.mcp.check_inbox(&me(), Some(next[0].id), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_inbox_is_its_agents_alone() {
    let (fixture, _database) = Fixture::fresh().await;
    let other = fixture.agent("other").await.unwrap();
    let mine = fixture.executor.post_message(&message(&me(), "k")).await.unwrap();
    fixture.executor.post_message(&message(&other, "k")).await.unwrap();
    for store in [&fixture.mcp, &fixture.executor] {
        assert_eq!(store.check_inbox(&other, Some(mine), 10).await.unwrap().len(), 1);
    }
    assert_eq!(fixture.mcp.check_inbox(&me(), None, 10).await.unwrap()[0].id, mine, "nobody else acknowledges it");
}
