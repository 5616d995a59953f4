//! `pickup`: how long a run that is asked for, or due, waits for its first step; on an idle system, and under half load.
//!
//! Asked for through the store's verb, in the role of `ordinaut-mcp`, which checks, guards against a repeat and audits;
//! the clock runs from before the call. Due: from the instant of a schedule. Both until the first step starts, as
//! history's timeline says, by PostgreSQL's clock, which is this machine's. The limit program's insert, hint and claim are
//! measured until its claim is answered. Half load is half of what one executor drained a moment before, put into the
//! queue of other tasks twenty times a second.

use std::time::Duration;

use jiff::Timestamp;
use ordinaut_schema::{id::TaskId, schedule::ScheduleKind};
use ordinaut_store::{Caller, Role, Store, tasks::Inserted, testing::accepted_with};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    drain::{AGENTS, EACH, RUNS, TASKS},
    limit::pickup::pickups,
    measure::{Figure, MIDDLE, Subject, Told, WORST, interleaved},
    scene::{Scene, Tasks, nothing},
};

const ROUNDS: usize = 5;
/// Of a round.
const ASKED: usize = 200;
/// Schedules of a round, so far apart.
const DUE: u32 = 40;
const APART: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_millis(10);
/// How often load is added.
const LOAD_EVERY: Duration = Duration::from_millis(50);
const LOAD_SHARE: f64 = 0.5;
const LIMIT: Duration = Duration::from_secs(30);

const MIDDLE_GOAL: f64 = 1.3;
const WORST_GOAL: f64 = 2.0;

/// In nanoseconds, how long after `at` the first step of each run began.
const FIRST_STEP: &str =
    "(extract(epoch from (run.steps -> 0 ->> 'started_at')::timestamptz - at) * 1e9)::double precision";

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let scene = Scene::set("pickup", Tasks::of_nothing(TASKS, AGENTS))?;
    let on = &scene.runtime;
    let executors = on.block_on(scene.executors(1))?;
    let load = LOAD_SHARE * on.block_on(drained(&scene))?;
    let asking = on.block_on(Asking::begin(&scene))?;

    let told: [Told; 5] = [(); 5].map(|()| Told::default());
    let [limit, asked, due, loaded_asked, loaded_due] = &told;
    let names = ["limit", "asked for", "due", "asked for, half load", "due, half load"];
    let mut subjects = vec![
        Subject::new("pickup, p50", names[0], "ns", limit.keep(MIDDLE, || on.block_on(by_limit(&scene)))),
        Subject::new("pickup, p50", names[1], "ns", asked.keep(MIDDLE, || on.block_on(asking.ask()))),
        Subject::new("pickup, p50", names[2], "ns", due.keep(MIDDLE, || on.block_on(asking.schedule()))),
        Subject::new("pickup, p50", names[3], "ns", {
            loaded_asked.keep(MIDDLE, || {
                let (asked, due) = on.block_on(asking.under(load))?;
                loaded_due.set(due);
                Ok(asked)
            })
        }),
        Subject::told("pickup, p50", names[4], loaded_due, MIDDLE),
    ];
    for (name, told) in names.iter().zip(&told) {
        subjects.push(Subject::told("pickup, p99", name, told, WORST));
    }
    for (case, at, goal) in [("p50 to limit", MIDDLE, MIDDLE_GOAL), ("p99 to limit", WORST, WORST_GOAL)] {
        for (name, told) in [(names[1], asked), (names[2], due)] {
            subjects.push(Subject::ratio(case, name, (told, limit), at).goal(goal));
        }
    }
    let figures = interleaved(ROUNDS, subjects);
    executors.stop();
    figures
}

async fn by_limit(scene: &Scene) -> anyhow::Result<Vec<f64>> {
    scene.empty().await?;
    // The executor would take what is pending: it waits behind a gate, which the limit program does not look at.
    scene.shut_gate().await?;
    let took = pickups(scene.owner(), ASKED).await?;
    scene.open_gate().await?;
    Ok(took.iter().map(|took| took.as_secs_f64() * 1e9).collect())
}

/// What the executor at work empties a full queue at, in runs a second.
async fn drained(scene: &Scene) -> anyhow::Result<f64> {
    scene.put_runs(EACH).await?;
    scene.drain_rate(RUNS).await
}

/// Whoever asks for runs.
struct Asking<'a> {
    scene: &'a Scene,
    store: Store,
    caller: Caller,
    task: TaskId,
}

impl<'a> Asking<'a> {
    async fn begin(scene: &'a Scene) -> anyhow::Result<Self> {
        let store = scene.store(Role::Mcp).await?;
        let caller = Caller::local("bench");
        let now = store.now().await?;
        let fields = json!({ "pipeline": nothing(1) });
        let manual = accepted_with("Asked for", (ScheduleKind::Manual, ""), now, fields);
        let (Inserted::Created(task) | Inserted::Existed(task)) = store.insert_task(&caller, &manual, None).await?;
        Ok(Self { scene, store, caller, task: task.id })
    }

    async fn ask(&self) -> anyhow::Result<Vec<f64>> {
        self.scene.empty().await?;
        self.asked().await
    }

    async fn asked(&self) -> anyhow::Result<Vec<f64>> {
        let mut asked = Vec::with_capacity(ASKED);
        for n in 0..ASKED {
            let at = wall_clock();
            let run = self.store.run_now(&self.caller, self.task, &format!("{n}"), None).await?.run;
            asked.push(format!("('{run}'::uuid, '{at}'::timestamptz)"));
            // Nothing looks on meanwhile.
            sleep(IDLE).await;
            self.until(1, &format!("id = '{run}'")).await?;
        }
        let asked = asked.join(", ");
        self.scene
            .numbers(&format!("select {FIRST_STEP} from (values {asked}) as asked (id, at) join run using (id)"))
            .await
    }

    async fn schedule(&self) -> anyhow::Result<Vec<f64>> {
        self.scene.empty().await?;
        self.scheduled().await
    }

    async fn scheduled(&self) -> anyhow::Result<Vec<f64>> {
        let first = self.store.now().await? + Duration::from_secs(1);
        let mut tasks = Vec::new();
        for n in 0..DUE {
            let at = first + APART * n;
            let once = (ScheduleKind::Once, &*at.to_string());
            let once = accepted_with(&format!("At {at}"), once, first, json!({ "pipeline": nothing(1) }));
            let (Inserted::Created(task) | Inserted::Existed(task)) =
                self.store.insert_task(&self.caller, &once, None).await?;
            tasks.push(format!("'{}'", task.id));
        }
        let last = first + APART * DUE;
        sleep(Duration::try_from(last.duration_since(self.store.now().await?)).unwrap_or_default()).await;
        let theirs = format!("task_id in ({})", tasks.join(", "));
        self.until(DUE, &theirs).await?;
        let first_step = FIRST_STEP.replace("- at", "- occurrence_at");
        self.scene.numbers(&format!("select {first_step} from run where {theirs}")).await
    }

    /// Both, while so many other runs a second are put into the queue.
    async fn under(&self, load: f64) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        self.scene.empty().await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
        let share = (load * LOAD_EVERY.as_secs_f64()) as u32;
        let mut every = interval(LOAD_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let loading = async {
            loop {
                every.tick().await;
                if let Err(broken) = self.scene.add_runs(share).await {
                    return broken;
                }
            }
        };
        let both = async {
            sleep(Duration::from_secs(1)).await;
            let asked = self.asked().await?;
            anyhow::Ok((asked, self.scheduled().await?))
        };
        tokio::select! {
            broken = loading => Err(broken),
            both = both => both,
        }
    }

    /// Waits until so many of `these` runs are over.
    async fn until(&self, count: u32, these: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let query = format!("select count(*) from run where {these}");
        while self.scene.number(&query).await? < f64::from(count) {
            anyhow::ensure!(began.elapsed() < LIMIT, "{count} runs are not over after {LIMIT:?}");
            sleep(IDLE).await;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "PostgreSQL's clock is this machine's, and to ask it would take time")]
fn wall_clock() -> Timestamp {
    Timestamp::now()
}
