//! Views: one agent's, over when they are dropped, and nothing of them left on the connection.

use std::time::Duration;

use ordinaut_schema::schedule::ScheduleKind;
use ordinaut_store::{
    Caller, Role, Settings, Store, StoreError,
    tasks::{TaskRecord, TaskRef},
    testing::{Database, Fixture, accepted},
};
use tokio::time::{Instant, sleep};

fn me() -> Caller {
    Caller::local("test")
}

async fn keep(f: &Fixture, title: &str) -> TaskRecord {
    let definition = accepted(title, (ScheduleKind::Manual, ""), f.mcp.now().await.unwrap());
    f.mcp.insert_task(&me(), &definition, None).await.unwrap();
    f.mcp.find_task(&me(), &title.into()).await.unwrap()
}

/// A store whose every question comes on one connection.
async fn narrow(database: &Database, deadline: Duration) -> Store {
    let settings = Settings { max_connections: 1, deadline, ..Settings::new(database.url.clone(), Role::Mcp) };
    Store::connect(settings).await.unwrap()
}

#[tokio::test]
async fn nothing_of_a_view_is_left_on_its_connection() {
    let (f, database) = Fixture::fresh().await;
    let task = keep(&f, "Mine").await;
    let store = narrow(&database, Duration::from_mins(1)).await;
    let mut view = store.view(&me()).await.unwrap();
    assert_eq!(view.find_task(&TaskRef::Id(task.id)).await.unwrap().spec.title, "Mine");
    drop(view);
    // Asked on behalf of nobody: row-level security shows nothing, unless the connection is still hers.
    let revision = store.find_revision(task.id, 1).await;
    assert!(matches!(revision, Err(StoreError::TaskNotFound { .. })), "{revision:?}");
    let other = f.agent("other").await.unwrap();
    let theirs = store.view(&other).await.unwrap().find_task(&TaskRef::Id(task.id)).await;
    assert!(matches!(theirs, Err(StoreError::TaskNotFound { .. })), "{theirs:?}");
}

#[tokio::test]
async fn a_question_that_is_cut_off_leaves_no_transaction_behind() {
    let (f, database) = Fixture::fresh().await;
    let task = keep(&f, "Mine").await;
    let store = narrow(&database, Duration::from_secs(2)).await;
    let mut held = f.owner.begin().await.unwrap();
    sqlx::query("lock table task").execute(&mut *held).await.unwrap();
    let mut view = store.view(&me()).await.unwrap();
    let cut_off = view.find_task(&TaskRef::Id(task.id)).await;
    assert!(matches!(cut_off, Err(StoreError::Unknown { .. })), "{cut_off:?}");
    drop(view);
    held.rollback().await.unwrap();

    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let open: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and state like '%in transaction%'",
        )
        .fetch_one(&f.owner)
        .await
        .unwrap();
        if open == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{open} transactions are left open");
        sleep(Duration::from_millis(20)).await;
    }
    let revision = store.find_revision(task.id, 1).await;
    assert!(matches!(revision, Err(StoreError::TaskNotFound { .. })), "{revision:?}");
    assert_eq!(store.find_task(&me(), &TaskRef::Id(task.id)).await.unwrap().id, task.id);
}

#[tokio::test]
async fn connections_that_the_server_ended_are_not_noticed() {
    let (f, _database) = Fixture::fresh().await;
    let task = keep(&f, "Mine").await;
    let (who, mine) = (me(), TaskRef::Id(task.id));
    for title in ["One", "Two"] {
        // Several at once, so that the pool holds several.
        let (one, two) = tokio::join!(f.mcp.find_task(&who, &mine), f.mcp.find_task(&who, &mine));
        assert_eq!((one.unwrap().id, two.unwrap().id), (task.id, task.id));
        sqlx::query(
            "
            select pg_terminate_backend(pid, 10000)
            from pg_stat_activity
            where datname = current_database()
              and pid <> pg_backend_pid()
              and application_name = 'ordinaut'
            ",
        )
        .execute(&f.owner)
        .await
        .unwrap();
        assert_eq!(f.mcp.find_task(&who, &mine).await.unwrap().id, task.id);
        let definition = accepted(title, (ScheduleKind::Manual, ""), task.created_at);
        f.mcp.insert_task(&who, &definition, None).await.unwrap();
    }
}
