//! `pickup`: how long a run that is asked for, or due, waits for its claim on an idle system, one at a time.
//!
//! Asked for through the store's verb, in the role of `ordinaut-mcp`, which checks, guards against a repeat and audits;
//! the clock runs from before the call. Due: from the instant of a schedule. Both until the instant of the claim, which
//! history keeps as the run's start, by PostgreSQL's clock, which is this machine's. The limit program's insert, hint and
//! claim are measured until its claim is answered.

use std::{cell::RefCell, rc::Rc, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{id::TaskId, schedule::ScheduleKind};
use ordinaut_store::{Caller, Role, Store, tasks::Inserted, testing::accepted_with};
use serde_json::json;

use crate::{
    limit::pickup::pickups,
    measure::{Figure, Subject, interleaved, percentile},
    scene::Scene,
};

const ROUNDS: usize = 5;
/// Of a round.
const RUNS: usize = 200;
/// Schedules of a round, so far apart.
const DUE: u32 = 40;
const APART: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_millis(10);

const BROKEN: &str = "a run that was picked up before is picked up again";
const MIDDLE_GOAL: f64 = 1.3;
const WORST_GOAL: f64 = 2.0;

type Told = Rc<RefCell<Vec<f64>>>;
type Round<'a> = Box<dyn FnMut() -> anyhow::Result<Vec<f64>> + 'a>;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let scene = Scene::set("pickup", 1, 1)?;
    let executors = scene.runtime.block_on(scene.executors(1))?;
    let asking = scene.runtime.block_on(Asking::begin(&scene))?;
    let [limit, asked, due]: [Told; 3] = [(); 3].map(|()| Told::default());

    let mut subjects = Vec::new();
    let rounds: [(&'static str, &Told, Round<'_>); 3] = [
        ("limit", &limit, Box::new(|| scene.runtime.block_on(by_limit(&scene)))),
        ("asked for", &asked, Box::new(|| scene.runtime.block_on(asking.ask(&scene)))),
        ("due", &due, Box::new(|| scene.runtime.block_on(asking.schedule(&scene)))),
    ];
    for (name, told, mut round) in rounds {
        let first = told.clone();
        subjects.push(Subject::new("pickup, p50", name, "ns", move || {
            *first.borrow_mut() = round().expect(BROKEN);
            percentile(&mut first.borrow_mut(), 50)
        }));
        let told = told.clone();
        subjects.push(Subject::new("pickup, p99", name, "ns", move || percentile(&mut told.borrow_mut(), 99)));
    }
    for (name, told) in [("asked for", &asked), ("due", &due)] {
        for (case, at, goal) in [("p50 to limit", 50, MIDDLE_GOAL), ("p99 to limit", 99, WORST_GOAL)] {
            let (told, limit) = (told.clone(), limit.clone());
            let ratio = move || percentile(&mut told.borrow_mut(), at) / percentile(&mut limit.borrow_mut(), at);
            subjects.push(Subject::new(case, name, "", ratio).goal(goal));
        }
    }
    let mut figures = interleaved(ROUNDS, subjects);
    figures.sort_by_key(|figure| figure.case);
    executors.stop();
    Ok(figures)
}

async fn by_limit(scene: &Scene) -> anyhow::Result<Vec<f64>> {
    // The executor would take what is pending: it waits behind a gate, which the limit program does not look at.
    scene.sql("insert into gate (agent_id, shut_by) values ('00000000-0000-0000-0000-000000000000', 'bench')").await?;
    let took = pickups(scene.owner(), RUNS).await?;
    scene.sql("delete from gate").await?;
    Ok(took.iter().map(|took| took.as_secs_f64() * 1e9).collect())
}

/// Whoever asks for runs.
struct Asking {
    store: Store,
    caller: Caller,
    task: TaskId,
}

impl Asking {
    async fn begin(scene: &Scene) -> anyhow::Result<Self> {
        let store = scene.store(Role::Mcp).await?;
        let caller = Caller::local("bench");
        let now = store.now().await?;
        let manual = accepted_with("Asked for", (ScheduleKind::Manual, ""), now, json!({ "pipeline": nothing() }));
        let (Inserted::Created(task) | Inserted::Existed(task)) = store.insert_task(&caller, &manual, None).await?;
        Ok(Self { store, caller, task: task.id })
    }

    async fn ask(&self, scene: &Scene) -> anyhow::Result<Vec<f64>> {
        scene.empty().await?;
        let mut asked = Vec::with_capacity(RUNS);
        for n in 0..RUNS {
            let at = wall_clock();
            let run = self.store.run_now(&self.caller, self.task, &format!("{n}"), None).await?.run;
            asked.push(format!("('{run}'::uuid, {})", at.as_microsecond()));
            scene.until_ended(u32::try_from(n + 1)?).await?;
            tokio::time::sleep(IDLE).await;
        }
        let query = format!(
            "
            select ((extract(epoch from run.started_at) * 1000000 - asked.at) * 1000)::double precision
            from (values {}) as asked (id, at)
            join run on run.id = asked.id
            ",
            asked.join(", ")
        );
        scene.numbers(&query).await
    }

    async fn schedule(&self, scene: &Scene) -> anyhow::Result<Vec<f64>> {
        scene.empty().await?;
        let now = self.store.now().await?;
        for n in 0..DUE {
            let at = now + Duration::from_secs(1) + APART * n;
            let fields = json!({ "pipeline": nothing() });
            let once = accepted_with(&format!("At {at}"), (ScheduleKind::Once, &at.to_string()), now, fields);
            self.store.insert_task(&self.caller, &once, None).await?;
        }
        scene.until_ended(DUE).await?;
        scene
            .numbers("select (extract(epoch from started_at - occurrence_at) * 1000000000)::double precision from run")
            .await
    }
}

#[expect(clippy::disallowed_methods, reason = "PostgreSQL's clock is this machine's, and to ask it would take time")]
fn wall_clock() -> Timestamp {
    Timestamp::now()
}

fn nothing() -> serde_json::Value {
    json!([{ "id": "nothing", "uses": "data.transform", "with": { "expr": "`1`" } }])
}
