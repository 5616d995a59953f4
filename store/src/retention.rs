//! Partitions made ahead and dropped whole; guards forgotten when they are too old to matter.
//!
//! Executors do not own the tables: what they may do to them is in the functions of migrations 0007 and 0009, one
//! partition and one short transaction a call. Rows that fell into a default partition go in bites.

use std::time::Duration;

use sqlx::{PgConnection, postgres::PgQueryResult};

use crate::{Store, StoreError, error::Doing as _, unanswered::Within as _};

/// Rows deleted in one statement: few enough to hold nobody up.
const BITE: i64 = 2_000;
/// Statements in one visit; what is left is left to the next.
const BITES: usize = 50;

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub history: Duration,
    pub outbox: Duration,
    /// Above it the outbox loses its oldest hours early, told or not, but never the one that is being written: that
    /// is where events go, and they cannot be refused. When it alone is larger, it goes as soon as it is over.
    pub outbox_bytes: u64,
}

/// Makes what is missing of the coming days and hours.
pub(crate) async fn make_partitions(connection: &mut PgConnection) -> Result<(), StoreError> {
    let missing = sqlx::query!(
        r#"
        select parent as "parent!", starts_at as "starts_at!: jiff_sqlx::Timestamp"
        from partitions_missing()
        "#
    )
    .fetch_all(&mut *connection)
    .await
    .doing("look for missing partitions")?;
    for partition in missing {
        sqlx::query_scalar!("select make_partition($1, $2)", partition.parent, partition.starts_at as _)
            .fetch_one(&mut *connection)
            .await
            .doing("make a partition")?;
    }
    Ok(())
}

impl Store {
    /// Makes the partitions of the coming days (history, daily) and hours (outbox, hourly). Any executor, any time.
    pub async fn make_partitions(&self) -> Result<(), StoreError> {
        let making = async {
            let mut connection = self.pool.acquire().await.doing("take a connection to make partitions")?;
            make_partitions(&mut connection).await
        };
        self.limited("make partitions", making).await
    }

    /// Drops history partitions older than kept, unless a run in flight has an id within; outbox partitions that are
    /// older, or more than there is room for; expired `received` rows, and acknowledged messages, problems that nobody acknowledged and decided
    /// approvals as old as history, in small bites.
    ///
    /// Events that are dropped before they were told are told of as one `events.gap` for each agent and hour.
    pub async fn drop_old(&self, kept: Retention) -> Result<(), StoreError> {
        let (history, outbox) = (kept.history.as_secs_f64(), kept.outbox.as_secs_f64());
        loop {
            let dropped = sqlx::query_scalar!("select drop_history(now() - make_interval(secs => $1))", history)
                .fetch_one(&self.pool)
                .within(self, "drop old history")
                .await?;
            let Some(partition) = dropped else { break };
            tracing::info!(partition, "dropped history partition {partition}");
        }
        loop {
            let dropped = sqlx::query_scalar!("select drop_outbox(now() - make_interval(secs => $1))", outbox)
                .fetch_one(&self.pool)
                .within(self, "drop old events")
                .await?;
            let Some(partition) = dropped else { break };
            tracing::info!(partition, "dropped old events of {partition}");
        }
        self.shrink_outbox(kept.outbox_bytes).await?;
        self.forget_rows(history).await
    }

    async fn shrink_outbox(&self, max_bytes: u64) -> Result<(), StoreError> {
        let max = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        loop {
            let shrunk = sqlx::query!(r#"select dropped, bytes as "bytes!" from shrink_outbox($1)"#, max)
                .fetch_one(&self.pool)
                .within(self, "shrink the outbox")
                .await?;
            let Some(partition) = shrunk.dropped else {
                if shrunk.bytes > max {
                    tracing::warn!(
                        "events of this hour alone take {} bytes of the {max_bytes} that the outbox may have; they stay \
                         until the hour is over",
                        shrunk.bytes
                    );
                }
                return Ok(());
            };
            tracing::warn!(
                partition,
                "the outbox took {} bytes of {max_bytes}: dropped its oldest hour, {partition}",
                shrunk.bytes
            );
        }
    }

    async fn forget_rows(&self, history: f64) -> Result<(), StoreError> {
        in_bites(|| async move {
            sqlx::query!(
                "
                delete from run_default
                where ctid = any (array (
                    select run_default.ctid
                    from run_default
                    where run_default.id < run_id_floor(now() - make_interval(secs => $1))
                    limit $2
                ))
                ",
                history,
                BITE,
            )
            .execute(&self.pool)
            .within(self, "forget old history")
            .await
        })
        .await?;
        in_bites(|| async move {
            sqlx::query!(
                "
                delete from received
                where ctid = any (array (
                    select received.ctid
                    from received
                    where received.expires_at < now()
                    order by received.expires_at
                    limit $1
                    for update skip locked
                ))
                ",
                BITE,
            )
            .execute(&self.pool)
            .within(self, "forget expired guards")
            .await
        })
        .await?;
        in_bites(|| async move {
            sqlx::query!(
                "
                delete from inbox
                where ctid = any (array (
                    select inbox.ctid
                    from inbox
                    where inbox.acked_at < now() - make_interval(secs => $1)
                    limit $2
                    for update skip locked
                ))
                ",
                history,
                BITE,
            )
            .execute(&self.pool)
            .within(self, "forget old messages")
            .await
        })
        .await?;
        self.forget_problems(history).await?;
        self.forget_approvals(history).await?;
        sqlx::query!("delete from executor where seen_at < now() - interval '7 days'")
            .execute(&self.pool)
            .within(self, "forget old executors")
            .await?;
        Ok(())
    }

    async fn forget_problems(&self, history: f64) -> Result<(), StoreError> {
        in_bites(|| async move {
            sqlx::query!(
                "
                delete from problem
                where ctid = any (array (
                    select problem.ctid
                    from problem
                    where problem.noted_at < now() - make_interval(secs => $1)
                    order by problem.noted_at
                    limit $2
                    for update skip locked
                ))
                ",
                history,
                BITE,
            )
            .execute(&self.pool)
            .await
            .doing("forget old problems")
        })
        .await
    }

    async fn forget_approvals(&self, history: f64) -> Result<(), StoreError> {
        in_bites(|| async move {
            sqlx::query!(
                "
                delete from approval
                where ctid = any (array (
                    select approval.ctid
                    from approval
                    where approval.state <> 'waiting'
                      and approval.expires_at < now() - make_interval(secs => $1)
                    limit $2
                    for update skip locked
                ))
                ",
                history,
                BITE,
            )
            .execute(&self.pool)
            .within(self, "forget old approvals")
            .await
        })
        .await
    }
}

/// Repeats a bounded delete until it finds less than a bite.
///
/// Not an `AsyncFnMut`: what that returns is not known to be `Send`, and retention is spawned.
async fn in_bites<F>(mut bite: impl FnMut() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<PgQueryResult, StoreError>>,
{
    for _ in 0..BITES {
        let gone = bite().await?.rows_affected();
        if gone < BITE.unsigned_abs() {
            break;
        }
    }
    Ok(())
}
