//! What a lab has the programs do: tasks of every policy that tick for a while, and what they must lead to.

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::id::TaskId;
use serde_json::{Value, json};

use crate::{
    client::Client,
    clock,
    expected::{Expected, Times},
    lab::Lab,
};

/// Between the last task that is kept and the first occurrence, at least.
const LEAD: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_LEAD: SignedDuration = SignedDuration::from_secs(30);

/// Ticking tasks.
#[derive(Debug, Clone, Copy)]
pub struct Ticking {
    pub tasks: u32,
    /// How long they tick.
    pub seconds: u32,
    /// How long the second step of each takes.
    pub busy_ms: u32,
}

impl Ticking {
    /// Keeps them over MCP, and notes which occurrences must come of it; answers when they end.
    pub async fn begin(self, lab: &Lab, client: &Client) -> anyhow::Result<Timestamp> {
        // One that never ticks says how long the others will take on this machine, as busy as it is; the one before it
        // had to wait for the program to be up.
        manual(lab, client, "once it is up").await?;
        let begun = clock::now();
        manual(lab, client, "how long it takes").await?;
        let now = clock::now();
        let lead = LEAD + (now.duration_since(begun) * i32::try_from(self.tasks)? * 3).min(LONGEST_LEAD);
        // Whole seconds, as occurrences are.
        let first = Timestamp::from_second(now.as_second() + lead.as_secs() + 1)?;
        let end = first + SignedDuration::from_secs(self.seconds.into());
        for n in 0..self.tasks {
            let policies = match n % 4 {
                0 => json!({ "overlap": "allow", "misfire": "run_all", "misfire_limit": 10_000 }),
                1 => json!({ "overlap": "skip" }),
                2 => json!({ "overlap": "queue", "queue_limit": 3 }),
                _ => json!({ "overlap": "skip", "misfire": "skip" }),
            };
            let every = 1 + n % 2;
            let schedule = json!({ "schedule_kind": "interval", "schedule_expr": format!("{every}s"), "starts_at": first, "ends_at": end });
            let mut definition = definition(lab, &format!("ticks {n}"), self.busy_ms, &[schedule, policies]);
            // Half of them end with the step that takes its time: its result is kept with the run's end, not before.
            if n % 4 < 2
                && let Some(steps) = definition["pipeline"].as_array_mut()
            {
                steps.pop();
            }
            let task = client.create_task(definition).await.context("keep a ticking task")?;
            lab.expect(Expected { task, times: Times::every(every, first, end) });
        }
        ensure!(clock::now() < first, "this machine kept {} tasks too slowly", self.tasks);
        Ok(end)
    }
}

/// A task that runs when it is asked to.
pub async fn manual(lab: &Lab, client: &Client, title: &str) -> anyhow::Result<TaskId> {
    let more = json!({ "schedule_kind": "manual", "overlap": "allow" });
    client.create_task(definition(lab, title, 0, &[more])).await
}

/// A task that runs when an event of `topic` comes.
pub async fn listening(lab: &Lab, client: &Client, title: &str, topic: &str) -> anyhow::Result<TaskId> {
    let more = json!({ "schedule_kind": "event", "schedule_expr": topic, "overlap": "allow" });
    client.create_task(definition(lab, title, 0, &[more])).await
}

/// Three steps: one that must not be repeated, one that may be (a PUT: a GET carries no key that a sink could tell it
/// by), and one that only computes.
pub fn definition(lab: &Lab, title: &str, busy_ms: u32, more: &[Value]) -> Value {
    let mut definition = json!({
        "title": title,
        "pause_after_failures": 0,
        "retry": { "max_attempts": 10, "initial": "1s", "max": "2s" },
        "pipeline": [
            { "id": "first", "uses": "http.post", "with": { "url": lab.sink.url("/hit/first") } },
            { "id": "second", "uses": "http.put", "with": { "url": lab.sink.url(&format!("/busy/second?ms={busy_ms}")) } },
            { "id": "third", "uses": "data.transform", "with": { "expr": "steps.second.body.call" } },
        ],
    });
    for fields in more {
        if let (Value::Object(definition), Value::Object(fields)) = (&mut definition, fields) {
            definition.extend(fields.clone());
        }
    }
    definition
}
