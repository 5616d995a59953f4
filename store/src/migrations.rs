//! The schema of a database: brought up to this program's, and compared with it.

use std::str::FromStr as _;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, migrate::Migrator, postgres::PgConnectOptions};

use crate::{
    error::{Doing as _, StoreError},
    restored::adopt_rows,
    retention::make_partitions,
};

static MIGRATIONS: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!("../migrations") };

/// What a database's schema has and this program does not, and the reverse; each by number and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    pub applied: usize,
    /// To be applied by the next program that starts.
    pub missing: Vec<String>,
    /// Applied by a newer program.
    pub unknown: Vec<String>,
    /// Applied, and not as this program has them: one of both was changed after the fact.
    pub changed: Vec<String>,
}

/// Brings the schema of the database at `url` up to this program's, under an advisory lock, and takes over what a dump
/// has brought from another cluster.
///
/// A database that a newer program migrated is left as it is: programs one version back keep working.
pub async fn migrate(url: &str) -> Result<(), StoreError> {
    let mut connection = connect(url).await?;
    MIGRATIONS.run(&mut connection).await.map_err(StoreError::Migrate)?;
    adopt_rows(&mut connection).await?;
    // Before anybody writes: a row that is on its way to the default partition cannot have its own made meanwhile.
    make_partitions(&mut connection).await
}

/// Compares the schema of the database at `url` with this program's, and changes nothing. Waits as long as the
/// connection takes: the caller has the limit.
pub async fn compare_migrations(url: &str) -> Result<Compared, StoreError> {
    let mut connection = connect(url).await?;
    let compared = compare(&mut connection).await;
    // What was read is read, however the goodbye goes.
    let _ = connection.close().await;
    compared
}

async fn compare(connection: &mut PgConnection) -> Result<Compared, StoreError> {
    // The migrator's own table, which no migration makes: the macros do not know it.
    let seen_before: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await
        .doing("look for applied migrations")?;
    let applied: Vec<(i64, String, Vec<u8>)> = if seen_before {
        sqlx::query_as("select version, description, checksum from _sqlx_migrations where success order by version")
            .fetch_all(&mut *connection)
            .await
            .doing("read the applied migrations")?
    } else {
        Vec::new()
    };
    let name = |version: i64, description: &str| format!("{version:04} {description}");
    let mut compared = Compared { applied: applied.len(), ..Compared::default() };
    for migration in MIGRATIONS.iter() {
        let named = name(migration.version, &migration.description);
        match applied.iter().find(|(version, ..)| *version == migration.version) {
            None => compared.missing.push(named),
            Some((.., checksum)) if checksum[..] != migration.checksum[..] => compared.changed.push(named),
            Some(_same) => {}
        }
    }
    let is_unknown = |version: i64| MIGRATIONS.iter().all(|migration| migration.version != version);
    compared.unknown = applied
        .iter()
        .filter(|(version, ..)| is_unknown(*version))
        .map(|(version, description, _)| name(*version, description))
        .collect();
    Ok(compared)
}

async fn connect(url: &str) -> Result<PgConnection, StoreError> {
    PgConnectOptions::from_str(url)
        .doing("read the database's address")?
        .application_name("ordinaut migrate")
        .connect()
        .await
        .doing("connect to the database")
}
