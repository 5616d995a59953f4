//! The embedded servers, for real: started, adopted, killed, stopped.

use std::time::Duration;

use nix::sys::signal::Signal;
use ordinaut_store::embedded::{Durability, Postgres, Redis};
use ordinaut_store::testing::{self, PrivateServers};
use sqlx::PgPool;

const LIMIT: Duration = Duration::from_mins(1);

async fn setting(pool: &PgPool, name: &str) -> String {
    sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_durable_postgres_runs_with_the_settings_that_were_promised() {
    let servers = PrivateServers::start(Durability::Durable).await;
    let pool = PgPool::connect(&servers.postgres.url()).await.unwrap();

    for name in ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"] {
        assert_eq!(setting(&pool, name).await, "on", "{name}");
    }
    assert_eq!(setting(&pool, "listen_addresses").await, "");
    assert_eq!(setting(&pool, "server_encoding").await, "UTF8");
    assert_eq!(setting(&pool, "idle_in_transaction_session_timeout").await, "1min");
    assert_eq!(setting(&pool, "unix_socket_permissions").await, "0700");
}

#[tokio::test]
async fn servers_that_run_are_adopted_and_not_started_twice() {
    let servers = PrivateServers::start(Durability::Fast).await;

    let postgres = Postgres::start(&servers.site, &mut |_| {}).await.unwrap();
    let redis = Redis::start(&servers.site).await.unwrap();

    assert_eq!(postgres.process, servers.postgres.process);
    assert_eq!(redis.process, servers.redis.process);
}

#[tokio::test]
async fn what_was_committed_survives_an_orderly_stop_and_a_kill() {
    let mut servers = PrivateServers::start(Durability::Durable).await;
    let url = servers.postgres.url();
    let pool = PgPool::connect(&url).await.unwrap();
    sqlx::query("create table kept (n integer)").execute(&pool).await.unwrap();
    sqlx::query("insert into kept values (1)").execute(&pool).await.unwrap();
    pool.close().await;

    servers.postgres.stop().await.unwrap();
    servers.redis.stop().await.unwrap();
    servers.restart().await;
    let pool = PgPool::connect(&url).await.unwrap();
    sqlx::query("insert into kept values (2)").execute(&pool).await.unwrap();

    servers.postgres.process.stop(&[(Signal::SIGKILL, LIMIT)]).await.unwrap();
    servers.redis.process.stop(&[(Signal::SIGKILL, LIMIT)]).await.unwrap();
    servers.restart().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let kept: i64 = sqlx::query_scalar("select count(*) from kept").fetch_one(&pool).await.unwrap();
    assert_eq!(kept, 2);
    assert!(servers.redis.is_healthy().await);
}

#[tokio::test]
async fn a_redis_that_runs_and_does_not_answer_is_replaced() {
    let mut servers = PrivateServers::start(Durability::Fast).await;
    let stuck = servers.redis.process.clone();
    stuck.signal(Signal::SIGSTOP);

    servers.restart().await;

    assert!(!stuck.is_alive());
    assert!(servers.redis.is_healthy().await);
}

#[tokio::test]
async fn each_test_has_a_database_and_a_redis_of_its_own() {
    let (one, two) = tokio::join!(testing::database(), testing::database());
    sqlx::query("create table mine (n integer)").execute(&one.pool).await.unwrap();
    sqlx::query("create table mine (n integer)").execute(&two.pool).await.unwrap();

    assert_ne!(one.url, two.url);
    assert_ne!(testing::redis_url().await, testing::redis_url().await);
}

#[tokio::test]
async fn a_test_database_is_dropped_with_its_fixture() {
    let kept = testing::database().await;
    let gone = testing::database().await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&gone.pool).await.unwrap();
    drop(gone);

    let found: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&kept.pool)
        .await
        .unwrap();
    assert!(!found);
}

#[tokio::test]
async fn an_initdb_that_was_cut_short_leaves_nothing_behind_and_harms_nothing() {
    let mut servers = PrivateServers::start(Durability::Fast).await;
    let unfinished = servers.site.layout.data_dir.join("postgres.new-0badcafe");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("PG_VERSION"), "9\n").unwrap();

    servers.restart().await;

    assert!(!unfinished.exists());
    assert!(servers.postgres.is_healthy().await);
}
