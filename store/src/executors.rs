//! Which executors run: so that answers can say whether anything will happen.

use jiff::Timestamp;
use sqlx::types::Uuid;

use crate::{Store, StoreError, unanswered::Within as _};

#[derive(Debug, Clone)]
pub struct ExecutorRecord {
    pub id: Uuid,
    pub name: String,
    pub version: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    pub state: String,
}

impl Store {
    /// Says that an executor is alive, and how it is (`running`, `draining`, `stopped`).
    pub async fn report_executor(&self, id: Uuid, name: &str, version: &str, state: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "
            insert into executor (id, name, version, state)
            values ($1, $2, $3, $4)
            on conflict (id) do update
            set name = excluded.name,
                version = excluded.version,
                state = excluded.state,
                seen_at = clock_timestamp()
            ",
            id,
            name,
            version,
            state,
        )
        .execute(&self.pool)
        .within(self, "report an executor")
        .await?;
        Ok(())
    }

    /// Those seen within the last minute and not stopped, newest first.
    pub async fn live_executors(&self) -> Result<Vec<ExecutorRecord>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select id, name, version, started_at as "started_at: jiff_sqlx::Timestamp",
                seen_at as "seen_at: jiff_sqlx::Timestamp", state
            from executor
            where state <> 'stopped'
              and seen_at > clock_timestamp() - interval '1 minute'
            order by started_at desc, id
            "#
        )
        .fetch_all(&self.pool)
        .within(self, "list executors")
        .await?;
        let executors = rows.into_iter().map(|row| ExecutorRecord {
            id: row.id,
            name: row.name,
            version: row.version,
            started_at: row.started_at.to_jiff(),
            seen_at: row.seen_at.to_jiff(),
            state: row.state,
        });
        Ok(executors.collect())
    }
}
