//! Renewals, which do not wait for what the runs themselves write.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::schedule::ScheduleKind;
use ordinaut_store::{
    Caller, Role, Settings, Store,
    tasks::Inserted,
    testing::{Fixture, accepted},
};
use tokio::task::JoinSet;
use uuid::Uuid;

const LEASE: Duration = Duration::from_mins(1);
const CONNECTIONS: u32 = 3;

#[tokio::test]
async fn a_lease_is_renewed_while_every_ordinary_connection_waits() {
    let (f, database) = Fixture::fresh().await;
    let settings = Settings { max_connections: CONNECTIONS, ..Settings::new(&database.url, Role::Executor) };
    let store = Store::connect(settings).await.unwrap();
    let local = Caller::local("test");
    let definition = accepted("held", (ScheduleKind::Manual, ""), store.now().await.unwrap());
    let task = match store.insert_task(&local, &definition, None).await.unwrap() {
        Inserted::Created(task) | Inserted::Existed(task) => task.id,
    };
    let run = store.run_now(&local, task, "1", None).await.unwrap().run;
    let one = NonZeroU16::new(1).expect("not zero");
    let claimed = store.claim_runs(Uuid::now_v7(), one, LEASE, i64::MIN).await.unwrap().remove(0);

    let held = f.hold_tasks(local.agent).await;
    let mut waiting = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (store, local) = (store.clone(), local.clone());
        waiting.spawn(async move { store.pause_task(&local, task, None, None).await });
    }
    f.until_waiting(CONNECTIONS.into()).await;

    let renewed = store.renew_leases(&[claimed.lease()], LEASE).await.unwrap();
    assert_eq!(renewed.iter().map(|it| it.run).collect::<Vec<_>>(), [run]);
    f.until_waiting(CONNECTIONS.into()).await;

    drop(held);
    while let Some(paused) = waiting.join_next().await {
        paused.unwrap().unwrap();
    }
}
