//! What a database has been through, compared with what this program would put it through.

use ordinaut_store::{compare_migrations, testing::Fixture};

#[tokio::test]
async fn migrations_that_are_missing_unknown_or_changed_are_named() {
    let (f, database) = Fixture::fresh().await;
    let compared = compare_migrations(&database.url).await.unwrap();
    assert!(compared.applied >= 9 && compared.missing.is_empty() && compared.unknown.is_empty(), "{compared:?}");

    sqlx::raw_sql(
        r"delete from _sqlx_migrations where version = 8;
          update _sqlx_migrations set checksum = '\x00' where version = 4;
          insert into _sqlx_migrations (version, description, success, checksum, execution_time)
          values (9001, 'from the future', true, '\x00', 0);",
    )
    .execute(&f.owner)
    .await
    .unwrap();
    let compared = compare_migrations(&database.url).await.unwrap();
    assert_eq!(compared.missing, ["0008 inbox shown"]);
    assert_eq!(compared.changed, ["0004 events"]);
    assert_eq!(compared.unknown, ["9001 from the future"]);

    sqlx::raw_sql("drop table _sqlx_migrations").execute(&f.owner).await.unwrap();
    let compared = compare_migrations(&database.url).await.unwrap();
    assert_eq!((compared.applied, compared.missing[0].as_str()), (0, "0001 agents"));
}
