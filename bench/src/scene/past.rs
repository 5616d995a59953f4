//! History that was there before: many rows of many days.

use super::Scene;
use crate::limit::drain::STEPS;

/// Before the days that benches write to.
const DAYS: u32 = 30;

impl Scene {
    /// Puts so many runs into history, of all tasks alike, over thirty days up to the day before yesterday.
    pub(crate) async fn put_history(&self, rows: u32) -> anyhow::Result<()> {
        self.sql("create unlogged table numbered as select id, agent_id, row_number() over () - 1 as n from task")
            .await?;
        self.sql("create unique index on numbered (n); analyze numbered").await?;
        for day in 0..DAYS {
            let each = rows / DAYS + u32::from(day < rows % DAYS);
            self.sql(&format!(
                "
                set synchronous_commit = off;
                select make_partition('run', date_trunc('day', now()) - interval '{ago} days');
                insert into run (
                    id, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id, attempts,
                    failures, crashes, planned_at, started_at, finished_at, output, steps
                )
                select
                    id, agent_id, task_id, 1, 'succeeded', 'schedule',
                    't:' || to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), at, id, 1, 0, 0, at, at, at, '1',
                    '{STEPS}'
                from (
                    select
                        (substr(run_id_floor(at)::text, 1, 14) || '8' || substr(gen_random_uuid()::text, 16))::uuid as id,
                        agent_id, task_id, at
                    from (
                        select
                            numbered.agent_id, numbered.id as task_id,
                            date_trunc('day', now()) - interval '{ago} days' + place * interval '1 day' / {each} as at
                        from generate_series(0, {each} - 1) as place
                        join numbered on numbered.n = place % {tasks}
                    ) as placed
                ) as named;
                reset synchronous_commit
                ",
                ago = DAYS + 1 - day,
                tasks = self.tasks.count,
            ))
            .await?;
        }
        self.sql("vacuum analyze run").await?;
        self.sql("checkpoint").await
    }
}
