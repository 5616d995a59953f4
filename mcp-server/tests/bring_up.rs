//! How the services come up: with a database that answers, and with one that must not be used.

use std::time::Duration;

use ordinaut_mcp::{
    backend::{Backend, Services},
    bring_up::{Place, keep_up},
    config::ServiceUrl,
};
use ordinaut_store::testing;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_services_are_up_once_the_database_answers() {
    let database = testing::database().await;
    let (starter, backend) = Backend::starting("the services");
    let drain = CancellationToken::new();
    let place = Place::Configured(ServiceUrl::new(&database.url));
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
