//! The scene of the queue's benches: a private PostgreSQL and Redis as people have them, agents with tasks, runs put in
//! beforehand, and the real executors.
//!
//! SQL stands here and in [`crate::limit`], outside `store`, because it is what `store` is compared with: scenes are set
//! for thousands of rows at once, as the owner, with exactly the rows that the planner writes.

use std::{
    fs::File,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use ordinaut_schema::schedule::ScheduleKind;
use ordinaut_store::{
    Caller, Role, Settings, Store,
    embedded::Durability,
    testing::{Database, PrivateServers, accepted_with},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::{runtime::Runtime, time::sleep};

use crate::programs::{Running, free_port, programs, tempdir};

/// How often it is looked whether the queue is empty.
const LOOK: Duration = Duration::from_millis(50);
/// Nothing that is measured takes this long.
const LIMIT: Duration = Duration::from_mins(5);

pub(crate) struct Scene {
    pub(crate) runtime: Runtime,
    directory: PathBuf,
    /// Dropped within the runtime.
    stores: Option<(Database, PrivateServers)>,
}

/// Executors at work, each with its log in a file.
pub(crate) struct Executors(Vec<Running>);

impl Scene {
    /// With `tasks` tasks, dealt out to `agents` agents.
    pub(crate) fn set(name: &str, tasks: u32, agents: u32) -> anyhow::Result<Self> {
        let runtime = Runtime::new().context("a runtime")?;
        let stores = runtime.block_on(async {
            let private = PrivateServers::start(Durability::Durable).await;
            let database = private.database().await;
            anyhow::Ok((database, private))
        })?;
        let scene = Self { runtime, directory: tempdir(name)?, stores: Some(stores) };
        scene.runtime.block_on(scene.fill(tasks, agents)).context("store tasks")?;
        Ok(scene)
    }

    pub(crate) fn database(&self) -> &Database {
        &self.stores.as_ref().expect("only dropping takes them").0
    }

    pub(crate) fn owner(&self) -> &PgPool {
        &self.database().pool
    }

    pub(crate) fn url(&self) -> &str {
        &self.database().url
    }

    pub(crate) async fn sql(&self, statements: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(self.owner()).await.map(drop).context("set a scene")
    }

    pub(crate) async fn number(&self, query: &str) -> anyhow::Result<f64> {
        let query = AssertSqlSafe(format!("select ({query})::double precision"));
        sqlx::query_scalar(query).fetch_one(self.owner()).await.context("read a figure")
    }

    pub(crate) async fn numbers(&self, query: &str) -> anyhow::Result<Vec<f64>> {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_all(self.owner()).await.context("read figures")
    }

    pub(crate) async fn store(&self, role: Role) -> anyhow::Result<Store> {
        Ok(Store::connect(Settings::new(self.url(), role)).await?)
    }

    /// One definition that does nothing, in as many copies as are wanted. Runs of a task may overlap.
    async fn fill(&self, tasks: u32, agents: u32) -> anyhow::Result<()> {
        let store = self.store(Role::Executor).await?;
        store.make_partitions().await?;
        let now = store.now().await?;
        let pipeline = json!([{ "id": "nothing", "uses": "data.transform", "with": { "expr": "`1`" } }]);
        let fields = json!({ "pipeline": pipeline, "overlap": "allow" });
        let manual = accepted_with("Nothing", (ScheduleKind::Manual, ""), now, fields);
        store.insert_task(&Caller::local("bench"), &manual, None).await?;
        store.close().await;
        self.sql(&format!(
            "
            insert into agent (id, name, grants)
            select gen_random_uuid(), 'agent ' || n, '{{}}' from generate_series(1, {agents}) as n;
            create temporary table dealt as
            select gen_random_uuid() as id, (array(select id from agent where name like 'agent %'))[1 + n % {agents}] as agent_id, n
            from generate_series(1, {tasks}) as n;
            insert into task (id, agent_id, title, title_key, state, revision, schedule_kind, zone_source)
            select dealt.id, dealt.agent_id, 'Nothing ' || n, 'nothing ' || n, state, revision, schedule_kind, zone_source
            from task, dealt;
            insert into task_revision (task_id, revision, agent_id, definition, created_by)
            select dealt.id, 1, dealt.agent_id, kept.definition || jsonb_build_object('title', 'Nothing ' || n), 'bench'
            from dealt
            cross join (select definition from task_revision) as kept;
            drop table dealt;
            delete from task_revision where task_id = (select id from task where title = 'Nothing');
            delete from task where title = 'Nothing';
            truncate outbox;
            analyze
            "
        ))
        .await
    }

    /// Empties queue, history and outbox, and puts `each` runs of every task into the queue, behind a shut gate: the rows
    /// that the planner writes for `each` occurrences of a schedule, ids and ranks included.
    pub(crate) async fn put_runs(&self, each: u32) -> anyhow::Result<()> {
        self.empty().await?;
        self.shut_gate().await?;
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
                5, 'schedule', key, at, run_id, true
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
                    from task
                    cross join (
                        select at, 't:' || to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as key
                        from generate_series(1, {each}) as n
                        cross join lateral (select date_trunc('second', now()) - n * interval '1 second' as at) as instant
                    ) as occurrence
                ) as named
            ) as derived
            "
        ))
        .await?;
        self.settle().await
    }

    /// What a queue that has stood for a while has: statistics, and no write of before that is still owed to the disk.
    async fn settle(&self) -> anyhow::Result<()> {
        self.sql("vacuum analyze due_work").await?;
        self.sql("vacuum analyze task").await?;
        self.sql("checkpoint").await
    }

    pub(crate) async fn empty(&self) -> anyhow::Result<()> {
        self.sql("truncate due_work, run, outbox, problem, step_journal, received").await
    }

    async fn shut_gate(&self) -> anyhow::Result<()> {
        self.sql("insert into gate (agent_id, shut_by) values ('00000000-0000-0000-0000-000000000000', 'bench')").await
    }

    /// Lets claims begin, and tells executors; answers the database's clock then, in seconds.
    pub(crate) async fn open_gate(&self) -> anyhow::Result<f64> {
        let began = self.number("select extract(epoch from clock_timestamp())").await?;
        self.sql("delete from gate; notify ordinaut_due, 'claimable'").await?;
        Ok(began)
    }

    /// Waits until so many runs are in history, and nothing is in the queue.
    pub(crate) async fn until_ended(&self, runs: u32) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.number("select count(*) from (select from due_work limit 1) as any_run").await? > 0.0
            || self.number("select count(*) from run").await? < f64::from(runs)
        {
            if began.elapsed() > LIMIT {
                bail!("the queue is not empty after {LIMIT:?}");
            }
            sleep(LOOK).await;
        }
        let ended = self.number("select count(*) from run where state = 'succeeded' and attempts = 1").await?;
        if (ended - f64::from(runs)).abs() > 0.5 {
            bail!("{runs} runs were put in, and {ended} ended well at their first attempt");
        }
        Ok(())
    }

    /// Starts so many real executors, and waits until they are at work.
    pub(crate) async fn executors(&self, count: u32) -> anyhow::Result<Executors> {
        let program = programs(&["ordinaut-executor"])?.join("ordinaut-executor");
        let redis = self.stores.as_ref().expect("only dropping takes them").1.redis_url();
        let known = self.number("select count(*) from executor").await?;
        let mut running = Vec::new();
        for n in 0..count {
            let log = self.directory.join(format!("executor-{n}.log"));
            let mut command = Command::new(&program);
            command
                .current_dir(&self.directory)
                .env("DATABASE_URL", self.url())
                .env("REDIS_URL", &redis)
                .env("ORDINAUT_CONFIG_DIR", &self.directory)
                .env("ORDINAUT_DATA_DIR", &self.directory)
                .env("ORDINAUT_EXECUTOR_LISTEN", format!("127.0.0.1:{}", free_port()?))
                .stderr(File::create(&log).with_context(|| format!("make {}", log.display()))?);
            running.push(Running::start(command)?);
        }
        let began = Instant::now();
        while self.number("select count(*) from executor").await? < known + f64::from(count) {
            if began.elapsed() > LIMIT {
                bail!("executors do not come up; see {}", self.directory.display());
            }
            sleep(LOOK).await;
        }
        // Past the first round of each of their services.
        sleep(Duration::from_millis(500)).await;
        Ok(Executors(running))
    }
}

impl Executors {
    pub(crate) fn stop(self) {
        for executor in self.0 {
            executor.stop();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // What stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
        let _within = self.runtime.enter();
        drop(self.stores.take());
    }
}
