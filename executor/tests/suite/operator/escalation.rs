//! `escalate_after`: what stays unread reaches a channel once, from one of several executors, and only if it may.

use std::sync::Arc;

use ordinaut_executor::{
    actions::notify::{Desktop, NotifySend},
    escalation::send_due,
    operator::{Standing, Watch},
};
use ordinaut_schema::{action::Grants, id::MessageId, limits::Limits, operator::Operator, schedule::ScheduleKind};
use ordinaut_store::{
    Caller, Store,
    inbox::NewMessage,
    secrets::{KeySource, SecretVault},
    tasks::{Inserted, TaskRecord},
    testing::{Database, Fixture, accepted_with},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::endpoint::Endpoint;

struct Scene {
    fixture: Fixture,
    notify: Arc<NotifySend>,
    endpoint: Endpoint,
    _database: Database,
}

fn standing(store: &Store, endpoint: &Endpoint) -> Standing {
    let file = json!({ "channels": { "hook": { "kind": "webhook", "url": endpoint.url("/in") } } });
    let operator = Operator::read(file.as_object().unwrap()).unwrap_or_else(|faults| panic!("{faults}"));
    let (watch, standing) = Watch::new(None, operator, store.clone());
    // What is in force outlives who could change it.
    drop(watch);
    standing
}

impl Scene {
    async fn set() -> Self {
        let ((fixture, database), endpoint) = (Fixture::fresh().await, Endpoint::open().await);
        let store = fixture.executor.clone();
        let vault = SecretVault::new(store.clone(), KeySource::choose(None, None, std::path::Path::new("unused")));
        let standing = standing(&store, &endpoint);
        let notify = Arc::new(NotifySend::new(standing, store, vault, Desktop::default(), &Limits::DEFAULT));
        Self { fixture, notify, endpoint, _database: database }
    }

    async fn task(&self, caller: &Caller, fields: Value) -> TaskRecord {
        let now = self.fixture.executor.now().await.unwrap();
        let definition = accepted_with("Watch", (ScheduleKind::Manual, ""), now, fields);
        let (Inserted::Created(task) | Inserted::Existed(task)) =
            self.fixture.mcp.insert_task(caller, &definition, None).await.unwrap();
        task
    }

    async fn post(&self, caller: &Caller, task: &TaskRecord) -> MessageId {
        let message = NewMessage {
            agent: caller.agent,
            task: Some(task.id),
            run: None,
            key: "run/step".to_owned(),
            level: "error".to_owned(),
            title: Some("Water".to_owned()),
            body: "The cellar is wet.".to_owned(),
            cause_depth: 0,
        };
        self.fixture.executor.post_message(&message).await.unwrap()
    }

    async fn sweep(&self) -> u32 {
        send_due(&self.fixture.executor, &self.notify, &CancellationToken::new()).await.unwrap()
    }
}

fn me() -> Caller {
    Caller::local("test")
}

fn escalating() -> Value {
    json!({ "escalate_after": "1h30m", "escalate_to": "hook" })
}

#[tokio::test]
async fn a_message_that_stays_unread_is_sent_once_however_many_executors_look() {
    let scene = Scene::set().await;
    let task = scene.task(&me(), escalating()).await;
    let message = scene.post(&me(), &task).await;
    assert_eq!(scene.sweep().await, 0, "it is not due before its time");
    scene.fixture.overdue(message).await;

    let mut executors = JoinSet::new();
    for _ in 0..6 {
        let (store, notify) = (scene.fixture.executor.clone(), scene.notify.clone());
        executors.spawn(async move { send_due(&store, &notify, &CancellationToken::new()).await.unwrap() });
    }
    assert_eq!(executors.join_all().await.iter().sum::<u32>(), 1);
    let seen = scene.endpoint.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("idempotency-key"), format!("escalation/{message}"));
    assert_eq!((&seen[0].body["title"], &seen[0].body["level"]), (&json!("Water"), &json!("error")));
    let text = seen[0].body["text"].as_str().unwrap();
    // A message of no run names none, least of all one that never was.
    assert_eq!((&seen[0].body["task_id"], &seen[0].body["run_id"]), (&json!(task.id), &Value::Null));
    assert!(text.starts_with("The cellar is wet.\nUnread in the inbox since 2"), "{text}");
    assert_eq!(scene.fixture.mcp.check_inbox(&me(), None, 10).await.unwrap().len(), 1, "it stays unread");
}

#[tokio::test]
async fn what_was_read_is_sent_to_nobody() {
    let scene = Scene::set().await;
    let task = scene.task(&me(), escalating()).await;
    let message = scene.post(&me(), &task).await;
    scene.fixture.mcp.check_inbox(&me(), Some(message), 10).await.unwrap();
    scene.fixture.overdue(message).await;
    assert_eq!((scene.sweep().await, scene.endpoint.seen().len()), (0, 0));
}

#[tokio::test]
async fn a_task_that_does_not_escalate_any_more_sends_nothing() {
    let scene = Scene::set().await;
    let task = scene.task(&me(), escalating()).await;
    let message = scene.post(&me(), &task).await;
    scene.fixture.overdue(message).await;
    let now = scene.fixture.executor.now().await.unwrap();
    let plain = accepted_with("Watch", (ScheduleKind::Manual, ""), now, json!({}));
    scene.fixture.mcp.update_task(&me(), task.id, &plain, None, false).await.unwrap();
    assert_eq!((scene.sweep().await, scene.endpoint.seen().len()), (0, 0));
}

#[tokio::test]
async fn a_channel_that_fails_is_tried_again_later() {
    let scene = Scene::set().await;
    let task = scene.task(&me(), escalating()).await;
    let message = scene.post(&me(), &task).await;
    scene.fixture.overdue(message).await;
    scene.endpoint.then(503, &[], "closed");
    assert_eq!((scene.sweep().await, scene.endpoint.seen().len()), (0, 1), "and not at once");
    scene.fixture.overdue(message).await;
    assert_eq!((scene.sweep().await, scene.endpoint.seen().len()), (1, 2));
}

#[tokio::test]
async fn a_channel_that_is_not_granted_is_not_sent_to_until_it_is() {
    let scene = Scene::set().await;
    let other = scene.fixture.agent("other").await.unwrap();
    let task = scene.task(&other, escalating()).await;
    let message = scene.post(&other, &task).await;
    scene.fixture.overdue(message).await;
    assert_eq!((scene.sweep().await, scene.endpoint.seen().len()), (0, 0));

    let grant = |grants: &mut Grants| grants.channels.push("hook".to_owned());
    scene.fixture.executor.change_grants("other", grant).await.unwrap();
    scene.fixture.overdue(message).await;
    assert_eq!((scene.sweep().await, scene.endpoint.seen().len()), (1, 1));
}
