//! One run at a time: inserted with a hint, heard of, claimed, and out of the way again.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{PgPool, postgres::PgListener, types::Uuid};

use super::drain::CLAIM;

const CHANNEL: &str = "limit_due";

const INSERT: &str = "
    with entered as (
        insert into due_work (
            run_id, agent_id, task_id, revision, state, rank, priority, trigger, occurrence_key, occurrence_at, root_run_id
        )
        select $1, agent_id, id, 1, 'pending', (extract(epoch from now()) * 1000000)::bigint, 5, 'manual', 'm:' || $1, now(), $1
        from task
        limit 1
        returning run_id
    )
    select pg_notify($2, run_id::text) from entered";

/// How long each of so many takes from before its insert until its claim is answered.
pub(crate) async fn pickups(owner: &PgPool, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut listener = PgListener::connect_with(owner).await?;
    listener.listen(CHANNEL).await?;
    let (mut asking, mut claiming) = (owner.acquire().await?, owner.acquire().await?);
    let mut took = Vec::with_capacity(count);
    let me = Uuid::now_v7();
    for _ in 0..count {
        let began = Instant::now();
        let insert = async {
            sqlx::query(INSERT).bind(Uuid::now_v7()).bind(CHANNEL).execute(&mut *asking).await.context("insert a run")
        };
        let claim = async {
            listener.recv().await?;
            let claimed: Vec<(Uuid, Uuid)> =
                sqlx::query_as(CLAIM).bind(me).bind(1_i64).fetch_all(&mut *claiming).await?;
            anyhow::ensure!(claimed.len() == 1, "one run was inserted, and {} were claimed", claimed.len());
            Ok(began.elapsed())
        };
        let (_, one) = tokio::try_join!(insert, claim)?;
        took.push(one);
        sqlx::query("delete from due_work").execute(&mut *asking).await?;
        // An executor is idle between runs, too.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(took)
}
