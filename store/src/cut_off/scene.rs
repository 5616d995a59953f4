//! What a verb is cut off over, and the judgement of what it left.

use std::{num::NonZeroU16, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{id::RunId, schedule::ScheduleKind};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, types::Uuid};

use super::Cut;
use crate::{
    Caller, Role, Settings, Store, StoreError,
    claims::ClaimedRun,
    tasks::{Inserted, TaskRecord},
    testing::{Database, Fixture, accepted_with},
};

pub(super) const LEASE: Duration = Duration::from_mins(1);
/// No verb waits so often.
const MOST_WAITS: u32 = 500;

/// A store of one connection, beside a fixture that sets scenes and looks.
pub(super) struct Scene {
    pub(super) f: Fixture,
    pub(super) one: Store,
    pub(super) local: Caller,
    _database: Database,
}

/// An answer that is there already is not waited for, and whether it is depends on how busy the machine is. So everything
/// is done again until a verb was cut off as deep in as it should be, this often at most.
const SWEEPS: u32 = 30;

/// The last wait at which a verb is cut off at least: by its caller, and inside the transaction of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deep {
    outside: u32,
    inside: u32,
}

/// A verb of one statement.
pub(super) const ONE: Deep = Deep { outside: 1, inside: 0 };
/// One with a transaction of its own: begin, a question or two, commit.
pub(super) const SEVERAL: Deep = Deep { outside: 1, inside: 3 };

impl Scene {
    pub(super) async fn new() -> Self {
        let (f, database) = Fixture::fresh().await;
        let settings = Settings { max_connections: 1, ..Settings::new(database.url.clone(), Role::Executor) };
        let one = Store::connect(settings).await.unwrap();
        Self { f, one, local: Caller::local("test"), _database: database }
    }

    /// Does `verb` over a scene of its own at each round, cut off one wait later each time, until it is not.
    ///
    /// `probe` is a query with one answer: it must be what it was before the verb, or what it is after a whole one.
    pub(super) async fn at_every_wait<P, T>(
        &self,
        (what, deep): (&str, Deep),
        scene: impl AsyncFn() -> (P, String),
        verb: impl AsyncFn(&Store, &P) -> Result<T, StoreError>,
    ) {
        let (prepared, probe) = scene().await;
        let before = self.look(&probe).await;
        verb(&self.one, &prepared).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let after = self.look(&probe).await;
        assert_ne!(before, after, "{what} does nothing that is looked at");

        let (mut outside, mut inside) = (0, 0);
        for _ in 0..SWEEPS {
            outside = outside.max(self.sweep(what, false, [&before, &after], &scene, &verb).await);
            inside = inside.max(self.sweep(what, true, [&before, &after], &scene, &verb).await);
            if outside >= deep.outside && inside >= deep.inside {
                return;
            }
        }
        panic!("{what} was cut off at wait {outside} outside and {inside} inside at the latest, not at {deep:?}");
    }

    /// One wait later each time; answers at which it was cut off last.
    async fn sweep<P, T>(
        &self,
        what: &str,
        is_inside: bool,
        [before, after]: [&String; 2],
        scene: &impl AsyncFn() -> (P, String),
        verb: &impl AsyncFn(&Store, &P) -> Result<T, StoreError>,
    ) -> u32 {
        for nth in 1..MOST_WAITS {
            let (prepared, probe) = scene().await;
            assert_eq!(self.look(&probe).await, *before, "{what}: each scene is like the first");
            // Else what an earlier verb left to be looked at would be cut off in its place.
            self.one.again.all_seen().await;
            let cut = if is_inside { self.one.cut.clone() } else { Cut::default() };
            cut.arm(nth);
            let done = if is_inside {
                // It is answered as given up, and says so at once.
                let done = verb(&self.one, &prepared).await;
                cut.arm(0);
                Some(done).filter(|done| !matches!(done, Err(StoreError::Unknown { .. })))
            } else {
                cut.off(verb(&self.one, &prepared)).await
            };
            let told = format!("{what}, cut off {} at wait {nth}", if is_inside { "inside" } else { "outside" });
            self.connection_is_in_order(&told).await;
            let left = self.look(&probe).await;
            if let Some(done) = done {
                done.unwrap_or_else(|error| panic!("{told}: {error:?}"));
                assert_eq!(left, *after, "{told}: it came through");
                return nth - 1;
            }
            assert!(left == *before || left == *after, "{told}: it left {left}, neither {before} nor {after}");
            // Whoever does not know asks again; that it was done already is a good answer, too.
            match verb(&self.one, &prepared).await {
                Ok(_) | Err(StoreError::LeaseLost { .. }) => {}
                Err(error) => panic!("{told}, and asked again: {error:?}"),
            }
            assert_eq!(self.look(&probe).await, *after, "{told}, and asked again");
        }
        panic!("{what} never came through");
    }

    async fn look(&self, probe: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(format!("select ({probe})::text"))).fetch_one(&self.f.owner).await.unwrap()
    }

    /// Whoever gets the connection next is answered what it asks, in no transaction of somebody else's.
    async fn connection_is_in_order(&self, told: &str) {
        for pool in [&self.one.pool, &self.one.urgent, &self.one.hot] {
            let question = rand::random::<u32>();
            // A message by itself: in a transaction that was begun before, `now()` is an earlier instant.
            let alone = format!("select now() = statement_timestamp() as alone, {question}::bigint as echo");
            let row = pool.fetch_one(sqlx::raw_sql(AssertSqlSafe(alone))).await.unwrap();
            assert_eq!(row.get::<i64, _>("echo"), i64::from(question), "{told}: the answer is to another question");
            assert!(row.get::<bool, _>("alone"), "{told}: its transaction is still open");
        }
    }

    async fn task(&self, fields: Value) -> TaskRecord {
        let title = format!("task {}", Uuid::now_v7());
        self.keep(&title, (ScheduleKind::Manual, ""), self.f.mcp.now().await.unwrap(), fields).await
    }

    pub(super) async fn keep(
        &self,
        title: &str,
        schedule: (ScheduleKind, &str),
        now: Timestamp,
        fields: Value,
    ) -> TaskRecord {
        let definition = accepted_with(title, schedule, now, fields);
        match self.f.mcp.insert_task(&self.local, &definition, None).await.unwrap() {
            Inserted::Created(task) | Inserted::Existed(task) => task,
        }
    }

    /// So many pending runs of a task of their own, and nothing else that could be claimed.
    pub(super) async fn pending(&self, n: usize, fields: Value) -> Vec<RunId> {
        sqlx::query("delete from due_work").execute(&self.f.owner).await.unwrap();
        let task = self.task(fields).await;
        let mut runs = Vec::new();
        for i in 0..n {
            runs.push(self.f.mcp.run_now(&self.local, task.id, &format!("{} {i}", task.id), None).await.unwrap().run);
        }
        runs
    }

    /// So many runs under leases.
    pub(super) async fn running(&self, n: usize, fields: Value) -> Vec<ClaimedRun> {
        self.pending(n, fields).await;
        claim(&self.f.executor).await.unwrap()
    }
}

pub(super) async fn claim(store: &Store) -> Result<Vec<ClaimedRun>, StoreError> {
    store.claim_runs(Uuid::now_v7(), NonZeroU16::new(10).expect("not zero"), LEASE, i64::MIN).await
}
