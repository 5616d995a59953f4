//! How the services come up: with a database that answers, and with one that must not be used.

use std::time::Duration;

use futures_util::FutureExt as _;
use ordinaut_mcp::{
    backend::{Backend, NotReady, Services, Stage},
    bring_up::{Place, keep_up},
    config::ServiceUrl,
};
use ordinaut_store::{Role, Settings, Store, testing};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_services_are_up_once_the_database_answers() {
    let database = testing::database().await;
    let (starter, backend) = Backend::starting("the services");
    let drain = CancellationToken::new();
    let place = Place::Configured { database: ServiceUrl::new(&database.url), redis: None };
    let call = async {
        let Services { store, .. } = backend.ready(PATIENCE).await.unwrap();
        let now = store.now().await.unwrap();
        store.close().await;
        drain.cancel();
        now
    };
    let (ended, now) = tokio::join!(keep_up(place, starter, drain.clone()), call);
    ended.unwrap();
    assert!(now > jiff::Timestamp::UNIX_EPOCH);
}

/// The wish of a call that came during the start was fulfilled by the start.
#[tokio::test]
async fn what_a_person_took_down_stays_down_until_a_call_asks_for_it() {
    let database = testing::database().await;
    let store = Store::connect(Settings::new(&database.url, Role::Mcp)).await.unwrap();
    let (starter, backend) = Backend::starting("the services");
    let (early, ()) = tokio::join!(backend.ready(PATIENCE), async {
        starter.tell(Stage::Ready(Services::new(store)));
    });
    early.unwrap();

    starter.tell(Stage::Starting("the services were stopped".to_owned()));
    assert!(starter.wanted().now_or_never().is_none(), "nobody has asked since");

    let (asked, ()) = tokio::join!(backend.ready(PATIENCE), async {
        starter.wanted().await;
        starter.tell(Stage::Failed("it was asked for".to_owned()));
    });
    assert_eq!(asked.unwrap_err(), NotReady::Failed("it was asked for".to_owned()));
}
