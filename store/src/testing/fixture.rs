//! Fixtures over real PostgreSQL: a database of the test's own, seen in both roles and by its owner.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use ordinaut_schema::{
    action::Grants,
    id::{AgentId, MessageId, OccurrenceKey, RunId, Shard, TaskId},
    limits::Limits,
    run::{RunState, StepRecord, StepState},
    schedule::{Schedule, ScheduleKind, ScheduleSource},
    task::{Accepted, TaskSpec, ZoneSource},
    time::Zone,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use tokio::time::{Instant, sleep};

use super::{Database, database};
use crate::{Caller, Role, Settings, Store, StoreError, tasks::TaskRecord};

/// One database in three views. Made by [`Fixture::fresh`].
#[derive(Debug, Clone)]
pub struct Fixture {
    pub mcp: Store,
    pub executor: Store,
    /// The owner's: for looking at rows, and for setting scenes that no verb sets.
    pub owner: PgPool,
}

impl Fixture {
    /// Over a fresh database, which goes with the second value.
    ///
    /// # Panics
    /// The database cannot be made.
    pub async fn fresh() -> (Self, Database) {
        let database = database().await;
        let open = |role| Store::connect(Settings::new(database.url.clone(), role));
        let fixture = Self {
            mcp: open(Role::Mcp).await.expect("the MCP role is there"),
            executor: open(Role::Executor).await.expect("the executor role is there"),
            owner: database.pool.clone(),
        };
        (fixture, database)
    }

    /// Another agent beside the local one.
    pub async fn agent(&self, name: &str) -> Result<Caller, StoreError> {
        let (agent, _token) = self.executor.add_agent(name, None, &Grants::default(), &[], None).await?;
        Ok(Caller::of(agent, name))
    }
}

impl Fixture {
    /// Lets the time go by after which an unread message is sent to a channel, or tried again.
    ///
    /// # Panics
    /// The message has no further try, or the database is gone.
    pub async fn overdue(&self, message: MessageId) {
        let moved = sqlx::query("update inbox set escalate_at = now() where id = $1 and escalate_at is not null")
            .bind(message.uuid())
            .execute(&self.owner)
            .await
            .expect("the owner may write messages");
        assert_eq!(moved.rows_affected(), 1, "message {message} is not to be sent");
    }

    /// The topics of what was told of a task (`None`: of anything), in order.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn topics(&self, task: Option<TaskId>) -> Vec<String> {
        sqlx::query_scalar!(
            "select topic from outbox where $1::uuid is null or task_id = $1 order by xid, id",
            task.map(TaskId::uuid),
        )
        .fetch_all(&self.owner)
        .await
        .expect("the owner reads the outbox")
    }

    /// Every table by its name, as text of all its rows: for seeing that nothing changed, or that something is nowhere.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn rows(&self) -> BTreeMap<String, String> {
        let tables: Vec<String> = sqlx::query_scalar(
            "
            select relname::text
            from pg_class
            where relnamespace = 'public'::regnamespace
              and relkind in ('r', 'p')
              and not relispartition
            ",
        )
        .fetch_all(&self.owner)
        .await
        .expect("the owner lists the tables");
        let mut rows = BTreeMap::new();
        for table in tables {
            let all = format!("select coalesce(string_agg(t::text, chr(10) order by t::text), '') from {table} t");
            let text = sqlx::query_scalar(AssertSqlSafe(all)).fetch_one(&self.owner).await;
            rows.insert(table, text.expect("the owner reads every table"));
        }
        rows
    }

    /// Makes the database refuse to give this run to another attempt.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn refuse_recovery(&self, run: RunId) {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "create function refuse_recovery() returns trigger language plpgsql as $$
             begin raise exception 'this one not'; end $$;
             create trigger refuse_recovery before update on due_work
             for each row when (new.run_id = '{run}' and new.crashes > old.crashes)
             execute function refuse_recovery();"
        )))
        .execute(&self.owner)
        .await
        .expect("the owner makes a trigger");
    }

    /// Blocks a run although there is room, as an admission that was cut short leaves it.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn block_run(&self, run: RunId) {
        sqlx::query("update due_work set state = 'blocked' where run_id = $1")
            .bind(run.uuid())
            .execute(&self.owner)
            .await
            .expect("the owner blocks a run");
    }

    /// Waits until so many sessions of this database wait for a lock.
    ///
    /// # Panics
    /// They do not within a minute.
    pub async fn until_waiting(&self, sessions: i64) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let waiting = sqlx::query_scalar!(
                r#"
                select count(*) as "waiting!"
                from pg_stat_activity
                where datname = current_database()
                  and wait_event_type = 'Lock'
                "#
            )
            .fetch_one(&self.owner)
            .await
            .expect("the owner sees who waits");
            if waiting == sessions {
                return;
            }
            assert!(Instant::now() < deadline, "{waiting} sessions wait for a lock, not {sessions}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The middle of an edit: a task's next revision, not committed.
    ///
    /// # Panics
    /// The database is gone, or the task.
    pub async fn edit(&self, task: TaskId) -> Transaction<'static, Postgres> {
        let mut tx = self.owner.begin().await.expect("the owner begins");
        sqlx::query(
            "
            with edited as (
                update task set revision = revision + 1 where id = $1 returning id, revision
            )
            insert into task_revision (task_id, revision, agent_id, definition, created_by)
            select id, edited.revision, agent_id, definition, created_by
            from edited
            join task_revision on task_id = id and task_revision.revision = edited.revision - 1
            ",
        )
        .bind(task.uuid())
        .execute(&mut *tx)
        .await
        .expect("the owner edits the task");
        tx
    }

    /// Holds every task of an agent's, so that whoever would change one waits.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn hold_tasks(&self, agent: AgentId) -> Held {
        let mut tx = self.owner.begin().await.expect("the owner begins");
        sqlx::query("select from task where agent_id = $1 for update")
            .bind(agent.uuid())
            .execute(&mut *tx)
            .await
            .expect("the owner locks tasks");
        Held { _tx: tx }
    }

    /// Holds the table of tasks, so that whoever would lock one waits, and whoever only reads does not.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn hold_planning(&self) -> Held {
        let mut tx = self.owner.begin().await.expect("the owner begins");
        sqlx::query("lock table task in exclusive mode").execute(&mut *tx).await.expect("the owner locks the table");
        Held { _tx: tx }
    }

    /// Opens a stretch of so many occurrences of a task that overlapped.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn skipping(&self, title: &str, occurrences: i32) {
        sqlx::query(
            "
            update task
            set stretch_reason = 'overlap',
                stretch_from = now(),
                stretch_to = now(),
                stretch_count = $2,
                stretch_opened_at = now()
            where title = $1
            ",
        )
        .bind(title)
        .bind(occurrences)
        .execute(&self.owner)
        .await
        .expect("the owner writes a task");
    }

    /// Puts a run into `due_work` in that state, without planning or claiming it.
    ///
    /// # Panics
    /// The run is there already.
    pub async fn plant_run(&self, task: &TaskRecord, key: &OccurrenceKey, at: Timestamp, state: RunState) -> RunId {
        let run = RunId::derive(task.id, key, at, Shard::default());
        sqlx::query!(
            "
            insert into due_work (
                run_id, agent_id, task_id, revision, state, rank, priority, wake_at, lease_token, lease_owner,
                lease_expires_at, attempt, trigger, occurrence_key, occurrence_at, root_run_id
            )
            select
                $1, $2, $3, $4, $5, 0, 5,
                case when $5 = 'waiting' then now() + interval '1 hour' end,
                case when $5 = 'running' then gen_random_uuid() end,
                case when $5 = 'running' then gen_random_uuid() end,
                case when $5 = 'running' then now() + interval '1 hour' end,
                case when $5 = 'running' then 1 else 0 end,
                'schedule', $6, $7, $1
            ",
            run.uuid(),
            task.agent.uuid(),
            task.id.uuid(),
            i32::try_from(task.revision).expect("a fixture has few revisions"),
            state.as_str(),
            key.as_str(),
            at.to_sqlx() as _,
        )
        .execute(&self.owner)
        .await
        .expect("the owner plants a run");
        run
    }
}

/// Locks, until it is dropped.
#[derive(Debug)]
pub struct Held {
    _tx: sqlx::Transaction<'static, sqlx::Postgres>,
}

/// A step as journaled after one call.
pub fn step(id: &str, state: StepState) -> StepRecord {
    StepRecord {
        step: id.to_owned(),
        index: None,
        uses: "http.post".to_owned(),
        state,
        calls: 1,
        input: json!({ "url": "http://example.com" }),
        output: json!({ "n": 1 }),
        error: None,
        started_at: None,
        finished_at: None,
    }
}

/// A definition as acceptance would have it, counting from `now`: `schedule` is `(kind, expr)`.
///
/// # Panics
/// The schedule is not one.
pub fn accepted(title: &str, (kind, expr): (ScheduleKind, &str), now: Timestamp) -> Accepted {
    accepted_with(title, (kind, expr), now, json!({}))
}

/// As [`accepted`], with `fields` of a stored definition set over the defaults.
///
/// # Panics
/// The schedule is not one, or the fields are not those of a definition.
pub fn accepted_with(title: &str, (kind, expr): (ScheduleKind, &str), now: Timestamp, fields: Value) -> Accepted {
    let zone = Zone::utc();
    let source = ScheduleSource { kind, expr, zone: Some(&zone), anchor: now };
    let schedule = Schedule::parse(source, &Limits::DEFAULT).expect("a fixture's schedule is valid");
    let mut stored = json!({
        "title": title,
        "schedule_kind": kind,
        "schedule_expr": schedule.normalised(),
        "timezone": zone.name(),
        "anchored_at": now,
        "misfire": "run_latest",
        "misfire_limit": 100,
        "overlap": "skip",
        "queue_limit": 100,
        "concurrency_limit": 1,
        "priority": 5,
        "run_timeout": "1h",
        "pause_after_failures": 10,
        "retry": { "max_attempts": 4, "backoff": "exponential_jitter", "initial": "1s", "max": "5m" },
        "pipeline": [],
    });
    if let (Value::Object(stored), Value::Object(fields)) = (&mut stored, fields) {
        stored.extend(fields);
    }
    let spec = TaskSpec::from_stored(stored).expect("a fixture's definition is one");
    Accepted { spec, schedule, zone_source: ZoneSource::Task, warnings: Vec::new() }
}
