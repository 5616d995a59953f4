//! The gate: while it is shut, nothing of an agent, or of anyone, is claimed. Claims read the same rows.

use jiff::Timestamp;
use ordinaut_schema::id::AgentId;
use sqlx::types::Uuid;

use crate::{Caller, Store, StoreError, audit::audit, error::Doing as _, unanswered::Within as _};

impl Store {
    /// Stops all claims, of one agent or (`None`) of everyone. Shutting a shut gate changes nothing.
    pub async fn shut_gate(&self, agent: Option<AgentId>, by: &str) -> Result<(), StoreError> {
        let by = by.to_owned();
        self.transaction("shut the gate", move |mut tx| async move {
            let shut = sqlx::query!(
                "insert into gate (agent_id, shut_by) values ($1, $2) on conflict (agent_id) do nothing",
                gate_key(agent),
                by,
            )
            .execute(&mut *tx)
            .await
            .doing("shut the gate")?;
            if shut.rows_affected() == 1 {
                audit(&mut tx, &at_gate(agent, &by), "shut_gate", None, None, None).await?;
            }
            Ok(((), tx))
        })
        .await
    }

    /// Lets claims go on. Each gate is opened by itself: everyone's stays shut when one agent's is opened.
    pub async fn open_gate(&self, agent: Option<AgentId>) -> Result<(), StoreError> {
        self.transaction("open the gate", move |mut tx| async move {
            let opened = sqlx::query!("delete from gate where agent_id = $1", gate_key(agent))
                .execute(&mut *tx)
                .await
                .doing("open the gate")?;
            if opened.rows_affected() == 1 {
                audit(&mut tx, &at_gate(agent, "operator"), "open_gate", None, None, None).await?;
            }
            Ok(((), tx))
        })
        .await?;
        // What was held back is claimable now.
        self.wakeups.hint(self.now().await?);
        Ok(())
    }

    /// Whether claims of this agent are stopped, by its own gate or everyone's, since when and by whom.
    pub async fn gate_shut(&self, agent: AgentId) -> Result<Option<(Timestamp, String)>, StoreError> {
        let gate = sqlx::query!(
            r#"
            select shut_at as "shut_at: jiff_sqlx::Timestamp", shut_by
            from gate
            where agent_id in ($1, $2)
            order by shut_at
            limit 1
            "#,
            agent.uuid(),
            Uuid::nil(),
        )
        .fetch_optional(&self.pool)
        .within(self, "look at the gate")
        .await?;
        Ok(gate.map(|gate| (gate.shut_at.to_jiff(), gate.shut_by)))
    }
}

/// The nil agent stands for everyone.
fn gate_key(agent: Option<AgentId>) -> Uuid {
    agent.map_or_else(Uuid::nil, AgentId::uuid)
}

fn at_gate(agent: Option<AgentId>, by: &str) -> Caller {
    Caller::of(AgentId::from_uuid(gate_key(agent)), by)
}
