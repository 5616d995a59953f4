//! Runs put into the queue, and waited for.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::time::sleep;

use super::Scene;

/// How often it is looked whether the queue is empty, at most; a long one is looked at less often.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_A_RUN: Duration = Duration::from_micros(5);
/// Nothing that is measured takes this long.
const LIMIT: Duration = Duration::from_mins(5);

/// History that benches write and forget: of this day, and of the last one for the runs around midnight. What they put
/// there to stay is older.
pub(crate) const RECENT: &str = "id >= run_id_floor(date_trunc('day', now()) - interval '1 day')";

impl Scene {
    /// Empties queue, recent history and outbox, and puts `each` runs of every task into the queue, behind a shut gate.
    pub(crate) async fn put_runs(&self, each: u32) -> anyhow::Result<()> {
        self.empty().await?;
        self.shut_gate().await?;
        let at = "date_trunc('second', now()) - n * interval '1 second'";
        self.enter("task", &format!("select {at} as at from generate_series(1, {each}) as n"), "").await?;
        self.settle().await
    }

    /// Puts a run of each of `tasks` tasks into the queue, due now, and says so.
    pub(crate) async fn add_runs(&self, tasks: u32) -> anyhow::Result<()> {
        let some = format!("(select * from task where title like 'Nothing %' limit {tasks}) as task");
        self.enter(&some, "select clock_timestamp() as at", ".US").await?;
        self.sql("notify ordinaut_due, 'claimable'").await
    }

    /// The rows that the planner writes for `instants` of a schedule of `tasks`, ids and ranks included; `fraction` is what
    /// their occurrence keys say of a second's parts.
    async fn enter(&self, tasks: &str, instants: &str, fraction: &str) -> anyhow::Result<()> {
        let pure = self.tasks.are_pure();
        self.sql(&format!(
            "
            insert into due_work (
                run_id, agent_id, task_id, revision, state, rank, priority, trigger, occurrence_key, occurrence_at,
                root_run_id, pure
            )
            select
                run_id, agent_id, task_id, 1, 'pending',
                (extract(epoch from at) * 1000000)::bigint + 4 * 30000000::bigint
                + (row_number() over (partition by agent_id order by at, run_id) - 1) * 10000,
                5, 'schedule', key, at, run_id, {pure}
            from (
                select
                    task_id, agent_id, at, key,
                    (
                        lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '800' || substr(digest, 2, 1)
                        || substr('89ab', 1 + ('x' || lpad(substr(digest, 3, 1), 8, '0'))::bit(32)::integer % 4, 1)
                        || substr(digest, 4, 15)
                    )::uuid as run_id
                from (
                    select
                        task.id as task_id, task.agent_id, at, key,
                        encode(sha256(uuid_send(task.id) || convert_to(key, 'UTF8')), 'hex') as digest
                    from {tasks}
                    cross join (
                        select at, 't:' || to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS{fraction}\"Z\"') as key
                        from ({instants}) as instant
                    ) as occurrence
                ) as named
            ) as derived
            "
        ))
        .await
    }

    pub(crate) async fn empty(&self) -> anyhow::Result<()> {
        self.sql(
            "
            truncate due_work, outbox, problem, step_journal, received;
            do $$
            declare
                day timestamptz := date_trunc('day', now());
                part text;
            begin
                foreach part in array array [partition_name('run', day), partition_name('run', day - interval '1 day')]
                loop
                    if to_regclass(part) is not null then execute format('truncate %I', part); end if;
                end loop;
            end $$;
            truncate run_default
            ",
        )
        .await
    }

    pub(crate) async fn shut_gate(&self) -> anyhow::Result<()> {
        self.sql("insert into gate (agent_id, shut_by) values ('00000000-0000-0000-0000-000000000000', 'bench')").await
    }

    /// Lets claims begin, and tells executors; answers the database's clock then, in seconds.
    pub(crate) async fn open_gate(&self) -> anyhow::Result<f64> {
        let began = self.now().await?;
        self.sql("delete from gate; notify ordinaut_due, 'claimable'").await?;
        Ok(began)
    }

    /// Waits until so many runs are in recent history, and nothing is in the queue.
    pub(crate) async fn until_ended(&self, runs: u32) -> anyhow::Result<()> {
        let (began, look) = (Instant::now(), LOOK.max(LOOK_A_RUN * runs));
        while self.number("select count(*) from (select from due_work limit 1) as any_run").await? > 0.0
            || self.number(&format!("select count(*) from run where {RECENT}")).await? < f64::from(runs)
        {
            if began.elapsed() > LIMIT {
                bail!("the queue is not empty after {LIMIT:?}");
            }
            sleep(look).await;
        }
        let well = format!("select count(*) from run where {RECENT} and state = 'succeeded' and attempts = 1");
        let ended = self.number(&well).await?;
        if (ended - f64::from(runs)).abs() > 0.5 {
            bail!("{runs} runs were put in, and {ended} ended well at their first attempt");
        }
        Ok(())
    }

    /// Empties a queue of `runs` runs that stands behind a gate, by executors that are at work: runs a second until the
    /// last history row.
    pub(crate) async fn drain_rate(&self, runs: u32) -> anyhow::Result<f64> {
        let began = self.open_gate().await?;
        self.until_ended(runs).await?;
        self.rate(runs, began).await
    }

    /// Runs a second from `began` to the last history row.
    pub(crate) async fn rate(&self, runs: u32, began: f64) -> anyhow::Result<f64> {
        let last = format!("select extract(epoch from max(finished_at)) from run where {RECENT}");
        Ok(f64::from(runs) / (self.number(&last).await? - began))
    }
}
