//! `dedupe_key`: the ledger row by which a run is known to have been there already.
//!
//! The row in `received` is locked by the transaction that plans the runs, before it decides, and written by the same
//! transaction when one of them takes the key: of two that plan at once the second waits here, and then reads what the
//! first did. It is kept as long as any window may be; whether a window is over is judged when it is asked.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{
    id::{AgentId, RunId, TaskId},
    task::{Dedupe, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::{Postgres, Transaction};
use tracing::warn;

use crate::error::{Doing as _, StoreError};

/// The run that took a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) run: RunId,
    /// What the run was for.
    pub(crate) occurrence_at: Timestamp,
    /// When it was planned, by the database's clock.
    planned_at: Timestamp,
}

impl Seen {
    /// Until when it makes what is asked for now, by an event or a person, a duplicate.
    pub(crate) fn holds_until(&self, window: Duration) -> Timestamp {
        self.planned_at.max(self.occurrence_at).checked_add(window).unwrap_or(Timestamp::MAX)
    }
}

/// What the ledger row says beside when.
#[derive(Serialize, Deserialize)]
struct Taken {
    run: RunId,
    occurrence_at: Timestamp,
}

/// Keys whose rows this transaction has locked.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    seen: BTreeMap<(AgentId, String), Option<Seen>>,
    taken: BTreeMap<(AgentId, String), (RunId, Timestamp)>,
}

/// The key of an occurrence, if it has one. What cannot be rendered is no key: the run goes ahead.
pub(crate) fn key_of(
    spec: &TaskSpec,
    task: TaskId,
    params: Option<&Map<String, Value>>,
    event: Option<&Value>,
) -> Option<Dedupe> {
    spec.dedupe(task, params, event)
        .inspect_err(|error| warn!(task.id = %task, %error, "the dedupe_key of task {task} cannot be rendered"))
        .ok()
        .flatten()
}

impl Keys {
    /// Locks the rows of these keys in key order, and makes those that are missing.
    pub(crate) async fn lock(
        tx: &mut Transaction<'_, Postgres>,
        keys: impl IntoIterator<Item = (AgentId, String)>,
    ) -> Result<Self, StoreError> {
        let mut seen: BTreeMap<_, _> = keys.into_iter().map(|key| (key, None)).collect();
        if seen.is_empty() {
            return Ok(Self::default());
        }
        let (agents, texts): (Vec<_>, Vec<_>) = seen.keys().map(|(agent, key)| (agent.uuid(), key.clone())).unzip();
        // Writing the row anew is what locks it, and what makes this read the row as the last transaction left it.
        let rows = sqlx::query!(
            r#"
            insert into received (agent_id, key)
            select agent_id, key
            from unnest($1::uuid [], $2::text []) as asked (agent_id, key)
            order by agent_id, key collate "C"
            on conflict (agent_id, key) do update set expires_at = excluded.expires_at
            returning agent_id, key, first_seen_at as "planned_at: jiff_sqlx::Timestamp", answer
            "#,
            &agents,
            &texts
        )
        .fetch_all(&mut **tx)
        .await
        .doing("lock dedupe keys")?;
        for row in rows {
            // Without an answer the row was only just made, or made by who then planned nothing.
            let taken = row.answer.and_then(|answer| serde_json::from_value::<Taken>(answer).ok());
            let planned_at = row.planned_at.to_jiff();
            let found = taken.map(|Taken { run, occurrence_at }| Seen { run, occurrence_at, planned_at });
            seen.insert((AgentId::from_uuid(row.agent_id), row.key), found);
        }
        Ok(Self { seen, taken: BTreeMap::new() })
    }

    /// Who took a key last, this transaction's own runs included.
    pub(crate) fn seen(&self, agent: AgentId, key: &str) -> Option<Seen> {
        self.seen.get(&(agent, key.to_owned())).copied().flatten()
    }

    /// Notes that a run takes a key, `now` being the database's clock.
    pub(crate) fn take(&mut self, agent: AgentId, key: &str, run: RunId, occurrence_at: Timestamp, now: Timestamp) {
        let key = (agent, key.to_owned());
        self.seen.insert(key.clone(), Some(Seen { run, occurrence_at, planned_at: now }));
        self.taken.insert(key, (run, occurrence_at));
    }

    /// Writes what was taken.
    pub(crate) async fn write(self, tx: &mut Transaction<'_, Postgres>) -> Result<(), StoreError> {
        if self.taken.is_empty() {
            return Ok(());
        }
        let (agents, texts): (Vec<_>, Vec<_>) =
            self.taken.keys().map(|(agent, key)| (agent.uuid(), key.clone())).unzip();
        let answers: Vec<Value> =
            self.taken.into_values().map(|(run, occurrence_at)| json!(Taken { run, occurrence_at })).collect();
        sqlx::query!(
            "
            update received
            set first_seen_at = now(),
                answer = taken.answer
            from unnest($1::uuid [], $2::text [], $3::jsonb []) as taken (agent_id, key, answer)
            where received.agent_id = taken.agent_id
              and received.key = taken.key
            ",
            &agents,
            &texts,
            &answers
        )
        .execute(&mut **tx)
        .await
        .doing("take dedupe keys")?;
        Ok(())
    }
}
