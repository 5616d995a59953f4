//! The scene of the queue's benches: a private PostgreSQL and Redis as people have them, agents with tasks, runs put in
//! beforehand, and the real executors.
//!
//! SQL stands here and in [`crate::limit`], outside `store`, because it is what `store` is compared with: scenes are set
//! for thousands of rows at once, as the owner, with exactly the rows that the planner writes.

mod executors;
mod past;
mod queue;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use ordinaut_schema::schedule::ScheduleKind;
use ordinaut_store::{
    Caller, Role, Settings, Store,
    embedded::Durability,
    testing::{Database, PrivateServers, accepted_with},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use tokio::runtime::Runtime;

use crate::programs::{children, processor_time, tempdir};

pub(crate) struct Scene {
    pub(crate) runtime: Runtime,
    pub(crate) directory: PathBuf,
    /// Dropped within the runtime.
    stores: Option<(Database, PrivateServers)>,
    tasks: Tasks,
}

/// One definition in as many copies as are wanted, dealt out to agents.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    pub(crate) count: u32,
    pub(crate) agents: u32,
    pub(crate) schedule: (ScheduleKind, &'static str),
    /// Of the definition, over the defaults.
    pub(crate) fields: Value,
}

impl Tasks {
    /// They do nothing, when asked, and may overlap.
    pub(crate) fn of_nothing(count: u32, agents: u32) -> Self {
        let fields = json!({ "pipeline": nothing(1), "overlap": "allow" });
        Self { count, agents, schedule: (ScheduleKind::Manual, ""), fields }
    }

    /// As the planner sees it: their runs only compute.
    fn are_pure(&self) -> bool {
        self.fields["pipeline"]
            .as_array()
            .is_some_and(|steps| steps.iter().all(|step| step["uses"] == "data.transform"))
    }
}

/// So many steps that compute nothing.
pub(crate) fn nothing(steps: u32) -> Value {
    (1..=steps)
        .map(|n| json!({ "id": format!("nothing_{n}"), "uses": "data.transform", "with": { "expr": "`1`" } }))
        .collect()
}

/// The amount that the environment asks for, of a bench whose full form takes long.
#[expect(clippy::disallowed_methods, reason = "this program's edge")]
pub(crate) fn amount(variable: &str, otherwise: u32) -> anyhow::Result<u32> {
    match std::env::var(variable) {
        Ok(text) => text.replace('_', "").parse().with_context(|| format!("{variable} is `{text}`: a whole number")),
        Err(_) => Ok(otherwise),
    }
}

impl Scene {
    pub(crate) fn set(name: &str, tasks: Tasks) -> anyhow::Result<Self> {
        let runtime = Runtime::new().context("a runtime")?;
        let stores = runtime.block_on(async {
            let private = PrivateServers::start(Durability::Durable).await;
            let database = private.database().await;
            anyhow::Ok((database, private))
        })?;
        let scene = Self { runtime, directory: tempdir(name)?, stores: Some(stores), tasks };
        scene.runtime.block_on(scene.fill()).context("store tasks")?;
        Ok(scene)
    }

    fn stores(&self) -> &(Database, PrivateServers) {
        self.stores.as_ref().expect("only dropping takes them")
    }

    pub(crate) fn owner(&self) -> &PgPool {
        &self.stores().0.pool
    }

    pub(crate) fn url(&self) -> &str {
        &self.stores().0.url
    }

    pub(crate) fn redis_url(&self) -> String {
        self.stores().1.redis_url()
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

    /// The database's clock, in seconds.
    pub(crate) async fn now(&self) -> anyhow::Result<f64> {
        self.number("extract(epoch from clock_timestamp())").await
    }

    pub(crate) async fn store(&self, role: Role) -> anyhow::Result<Store> {
        Ok(Store::connect(Settings::new(self.url(), role)).await?)
    }

    async fn fill(&self) -> anyhow::Result<()> {
        let Tasks { count, agents, schedule, fields } = &self.tasks;
        let store = self.store(Role::Executor).await?;
        store.make_partitions().await?;
        let now = store.now().await?;
        let template = accepted_with("Nothing", *schedule, now, fields.clone());
        store.insert_task(&Caller::local("bench"), &template, None).await?;
        store.close().await;
        self.sql(&format!(
            "
            insert into agent (id, name, grants)
            select gen_random_uuid(), 'agent ' || n, '{{}}' from generate_series(1, {agents}) as n;
            create temporary table dealt as
            select gen_random_uuid() as id, (array(select id from agent where name like 'agent %'))[1 + n % {agents}] as agent_id, n
            from generate_series(1, {count}) as n;
            insert into task (
                id, agent_id, title, title_key, state, revision, schedule_kind, next_occurrence_at, next_due_at, zone_source
            )
            select dealt.id, dealt.agent_id, 'Nothing ' || n, 'nothing ' || n, state, revision, schedule_kind,
                next_occurrence_at, next_due_at, zone_source
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

    /// A snapshot that is held until it is rolled back: no dead row of since can go.
    pub(crate) async fn hold_snapshot(&self) -> anyhow::Result<Transaction<'static, Postgres>> {
        let mut held = self.owner().begin_with("begin isolation level repeatable read").await?;
        sqlx::query("select from task limit 1").execute(&mut *held).await?;
        Ok(held)
    }

    /// MiB of the database.
    pub(crate) async fn size(&self) -> anyhow::Result<f64> {
        self.number("select pg_database_size(current_database()) / 1048576.0").await
    }

    /// Seconds of processor time that PostgreSQL has had, with all its processes.
    pub(crate) fn processor_time(&self) -> anyhow::Result<f64> {
        let postgres = self.stores().1.postgres.process.pid.cast_unsigned();
        Ok(processor_time(postgres)? + children(postgres)?.into_iter().flat_map(processor_time).sum::<f64>())
    }

    /// What a queue that has stood for a while has: statistics, and no write of before that is still owed to the disk.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        self.sql("vacuum analyze due_work").await?;
        self.sql("vacuum analyze task").await?;
        self.sql("checkpoint").await
    }

    /// Waits for the database's clock to come to `at`.
    ///
    /// # Errors
    /// It is past that already.
    pub(crate) async fn until(&self, at: f64) -> anyhow::Result<()> {
        let left = at - self.now().await?;
        if left <= 0.0 {
            bail!("the instant was over before all was set for it");
        }
        tokio::time::sleep(std::time::Duration::from_secs_f64(left)).await;
        Ok(())
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
