//! Agents, their tokens, and (`gate`) what stops everything.
//!
//! A token is 256 random bits; the database has its SHA-256 only, and finds it by that: what is compared was hashed
//! first, so the time it takes says nothing about any token.

mod gate;

use jiff::Timestamp;
use ordinaut_schema::{
    action::Grants,
    event::Topic,
    id::{AgentId, TaskId, TokenId},
    task::TaskState,
};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    Caller, Store, StoreError,
    audit::audit,
    connection::{at, become_agent},
    error::Doing as _,
    inbound::trigger_own,
    outbox::{Told, tell},
    unanswered::Within as _,
};

/// How tokens begin, so that one is recognised where it should not be.
const TOKEN_PREFIX: &str = "ordinaut_";

/// Who a bearer token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub agent: AgentId,
    pub agent_name: String,
    pub label: String,
    pub scopes: Vec<String>,
}

/// An agent as the operator sees it.
#[derive(Debug, Clone)]
pub struct AgentRecord {
    pub id: AgentId,
    pub name: String,
    pub timezone: Option<String>,
    pub grants: Grants,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// Its budget limits what models may cost.
    pub cost_budget: bool,
    pub tokens: Vec<TokenRecord>,
}

#[derive(Debug, Clone)]
pub struct TokenRecord {
    pub id: TokenId,
    pub label: String,
    pub scopes: Vec<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// A token in clear: shown once, never stored. `Debug` hides it.
pub struct NewToken {
    pub id: TokenId,
    pub text: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Store {
    /// Who the token speaks for; `None` when it is unknown, expired or revoked. Looked up by its SHA-256.
    pub async fn authenticate(&self, token: &str) -> Result<Option<Principal>, StoreError> {
        let digest = Sha256::digest(token.as_bytes());
        let found = sqlx::query!(
            r#"
            select agent_id as "agent_id!", agent_name as "agent_name!", label as "label!", scopes as "scopes!"
            from authenticate($1)
            "#,
            digest.as_slice(),
        )
        .fetch_optional(&self.pool)
        .within(self, "look up a token")
        .await?;
        Ok(found.map(|found| Principal {
            agent: AgentId::from_uuid(found.agent_id),
            agent_name: found.agent_name,
            label: found.label,
            scopes: found.scopes,
        }))
    }

    /// The agent's own row: name, zone, grants. Works in both roles; its tokens are for the operator (`list_agents`).
    pub async fn find_agent(&self, agent: AgentId) -> Result<AgentRecord, StoreError> {
        self.transaction("find an agent", move |mut tx| async move {
            become_agent(&mut tx, agent).await?;
            let row = sqlx::query_as!(
                AgentRow,
                r#"
                select id, name, timezone, grants, created_at as "created_at: jiff_sqlx::Timestamp",
                    revoked_at as "revoked_at: jiff_sqlx::Timestamp",
                    exists (
                        select from agent_budget where agent_id = agent.id and max_cost_per_month is not null
                    ) as "cost_budget!"
                from agent
                where id = $1
                "#,
                agent.uuid(),
            )
            .fetch_optional(&mut *tx)
            .await
            .doing("find an agent")?
            .ok_or_else(|| StoreError::AgentNotFound(agent.to_string()))?;
            Ok((row.record(Vec::new())?, tx))
        })
        .await
    }

    /// Makes an agent and its first token. Role executor only, like everything below.
    ///
    /// # Errors
    /// [`StoreError::AgentNameTaken`]
    pub async fn add_agent(
        &self,
        name: &str,
        timezone: Option<&str>,
        grants: &Grants,
        scopes: &[String],
        expires_at: Option<Timestamp>,
    ) -> Result<(AgentId, NewToken), StoreError> {
        let agent = AgentId::new();
        let (name, timezone, scopes) = (name.to_owned(), timezone.map(str::to_owned), scopes.to_vec());
        let grants = serde_json::to_value(grants)
            .map_err(|error| StoreError::unreadable(format!("the grants of agent `{name}`"), error))?;
        let wanted = name.clone();
        self.transaction("add an agent", move |mut tx| async move {
            sqlx::query!(
                "insert into agent (id, name, timezone, grants) values ($1, $2, $3, $4)",
                agent.uuid(),
                name,
                timezone,
                grants,
            )
            .execute(&mut *tx)
            .await
            .doing("insert an agent")?;
            let token = insert_token(&mut tx, agent, "first", &scopes, expires_at).await?;
            let detail = json!({ "name": name, "scopes": scopes });
            audit(&mut tx, &operator(agent), "add_agent", None, None, Some(detail)).await?;
            Ok(((agent, token), tx))
        })
        .await
        .map_err(|error| match error.constraint() {
            Some("agent_name_taken") => StoreError::AgentNameTaken(wanted),
            _ => error,
        })
    }

    /// One more token for an agent.
    pub async fn add_token(
        &self,
        agent: &str,
        label: &str,
        scopes: &[String],
        expires_at: Option<Timestamp>,
    ) -> Result<NewToken, StoreError> {
        let (name, label, scopes) = (agent.to_owned(), label.to_owned(), scopes.to_vec());
        self.transaction("add a token", move |mut tx| async move {
            let agent = lock_agent(&mut tx, &name).await?;
            let token = insert_token(&mut tx, agent, &label, &scopes, expires_at).await?;
            let detail = json!({ "label": label, "scopes": scopes });
            audit(&mut tx, &operator(agent), "add_token", None, None, Some(detail)).await?;
            Ok((token, tx))
        })
        .await
    }

    /// Changes what an agent's steps may use. It holds for the next call of every run, those under way too.
    pub async fn change_grants(
        &self,
        agent: &str,
        change: impl FnOnce(&mut Grants) + Clone + Send + 'static,
    ) -> Result<Grants, StoreError> {
        let name = agent.to_owned();
        self.transaction("change an agent's grants", move |mut tx| async move {
            let agent = lock_agent(&mut tx, &name).await?;
            let unreadable = |error| StoreError::unreadable(format!("the grants of agent `{name}`"), error);
            let written = sqlx::query_scalar!("select grants from agent where id = $1", agent.uuid())
                .fetch_one(&mut *tx)
                .await
                .doing("read an agent's grants")?;
            let mut grants: Grants = serde_json::from_value(written).map_err(unreadable)?;
            change(&mut grants);
            let written = serde_json::to_value(&grants).map_err(unreadable)?;
            sqlx::query!("update agent set grants = $2 where id = $1", agent.uuid(), &written)
                .execute(&mut *tx)
                .await
                .doing("write an agent's grants")?;
            audit(&mut tx, &operator(agent), "change_grants", None, None, Some(written)).await?;
            Ok((grants, tx))
        })
        .await
    }

    /// Every agent with its tokens, the revoked ones too, oldest first.
    pub async fn list_agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        let agents = sqlx::query_as!(
            AgentRow,
            r#"
            select id, name, timezone, grants, created_at as "created_at: jiff_sqlx::Timestamp",
                revoked_at as "revoked_at: jiff_sqlx::Timestamp",
                exists (
                    select from agent_budget where agent_id = agent.id and max_cost_per_month is not null
                ) as "cost_budget!"
            from agent
            order by created_at, id
            "#,
        )
        .fetch_all(&self.pool)
        .within(self, "list agents")
        .await?;
        let tokens = sqlx::query!(
            r#"
            select id, agent_id, label, scopes, created_at as "created_at: jiff_sqlx::Timestamp",
                expires_at as "expires_at: jiff_sqlx::Timestamp", revoked_at as "revoked_at: jiff_sqlx::Timestamp"
            from agent_token
            order by id
            "#,
        )
        .fetch_all(&self.pool)
        .within(self, "list tokens")
        .await?;
        agents
            .into_iter()
            .map(|agent| {
                let own = tokens.iter().filter(|token| token.agent_id == agent.id);
                let own = own.map(|token| TokenRecord {
                    id: TokenId::from_uuid(token.id),
                    label: token.label.clone(),
                    scopes: token.scopes.clone(),
                    created_at: token.created_at.to_jiff(),
                    expires_at: token.expires_at.map(jiff_sqlx::Timestamp::to_jiff),
                    revoked_at: token.revoked_at.map(jiff_sqlx::Timestamp::to_jiff),
                });
                let own = own.collect();
                agent.record(own)
            })
            .collect()
    }

    /// Revokes an agent and its tokens; its tasks stay and are paused.
    pub async fn revoke_agent(&self, name: &str) -> Result<AgentId, StoreError> {
        let name = name.to_owned();
        self.transaction("revoke an agent", move |mut tx| async move {
            let agent = lock_agent(&mut tx, &name).await?;
            sqlx::query!("update agent set revoked_at = coalesce(revoked_at, now()) where id = $1", agent.uuid())
                .execute(&mut *tx)
                .await
                .doing("revoke an agent")?;
            sqlx::query!(
                "update agent_token set revoked_at = coalesce(revoked_at, now()) where agent_id = $1",
                agent.uuid(),
            )
            .execute(&mut *tx)
            .await
            .doing("revoke the agent's tokens")?;
            pause_all(&mut tx, agent).await?;
            // What is planned already stays, and is not claimed any more.
            sqlx::query!(
                "insert into gate (agent_id, shut_by) values ($1, 'revoked') on conflict do nothing",
                agent.uuid()
            )
            .execute(&mut *tx)
            .await
            .doing("shut the agent's gate")?;
            audit(&mut tx, &operator(agent), "revoke_agent", None, None, None).await?;
            Ok((agent, tx))
        })
        .await
    }
}

struct AgentRow {
    id: Uuid,
    name: String,
    timezone: Option<String>,
    grants: serde_json::Value,
    created_at: jiff_sqlx::Timestamp,
    revoked_at: Option<jiff_sqlx::Timestamp>,
    cost_budget: bool,
}

impl AgentRow {
    fn record(self, tokens: Vec<TokenRecord>) -> Result<AgentRecord, StoreError> {
        let grants = serde_json::from_value(self.grants)
            .map_err(|error| StoreError::unreadable(format!("the grants of agent `{}`", self.name), error))?;
        Ok(AgentRecord {
            id: AgentId::from_uuid(self.id),
            name: self.name,
            timezone: self.timezone,
            grants,
            created_at: self.created_at.to_jiff(),
            revoked_at: self.revoked_at.map(jiff_sqlx::Timestamp::to_jiff),
            cost_budget: self.cost_budget,
            tokens,
        })
    }
}

/// Who acts on agents: the operator, whose line belongs to the agent it is about.
pub(crate) fn operator(agent: AgentId) -> Caller {
    Caller::of(agent, "operator")
}

pub(crate) async fn lock_agent(tx: &mut Transaction<'_, Postgres>, name: &str) -> Result<AgentId, StoreError> {
    let found = sqlx::query_scalar!("select id from agent where name = $1 for update", name)
        .fetch_optional(&mut **tx)
        .await
        .doing("find an agent by its name")?;
    found.map(AgentId::from_uuid).ok_or_else(|| StoreError::AgentNotFound(name.to_owned()))
}

async fn insert_token(
    tx: &mut Transaction<'_, Postgres>,
    agent: AgentId,
    label: &str,
    scopes: &[String],
    expires_at: Option<Timestamp>,
) -> Result<NewToken, StoreError> {
    let id = TokenId::new();
    let text = format!("{TOKEN_PREFIX}{}", hex::encode(rand::random::<[u8; 32]>()));
    let digest = Sha256::digest(text.as_bytes());
    sqlx::query!(
        "
        insert into agent_token (id, agent_id, label, token_sha256, scopes, expires_at)
        values ($1, $2, $3, $4, $5, $6)
        ",
        id.uuid(),
        agent.uuid(),
        label,
        digest.as_slice(),
        scopes,
        at(expires_at) as _,
    )
    .execute(&mut **tx)
    .await
    .doing("insert a token")?;
    Ok(NewToken { id, text })
}

/// Pauses what is active of an agent that is going.
async fn pause_all(tx: &mut Transaction<'_, Postgres>, agent: AgentId) -> Result<(), StoreError> {
    const BECAUSE: &str = "its agent was revoked";
    let paused = sqlx::query!(
        "
        update task
        set state = 'paused',
            paused_because = $2,
            -- A pause with an end would otherwise end.
            resume_at = null,
            updated_at = clock_timestamp()
        where agent_id = $1
          and state in ('active', 'paused')
        returning id, title, revision
        ",
        agent.uuid(),
        BECAUSE,
    )
    .fetch_all(&mut **tx)
    .await
    .doing("pause the agent's tasks")?;
    let told: Vec<_> = paused
        .into_iter()
        .map(|task| Told {
            agent,
            task: Some(TaskId::from_uuid(task.id)),
            run: None,
            topic: Topic::TaskPaused.as_str().into(),
            cause_depth: 0,
            payload: json!({
                "task_id": task.id,
                "title": task.title,
                "state": TaskState::Paused,
                "revision": task.revision,
                "because": BECAUSE,
            }),
        })
        .collect();
    tell(tx, &told).await?;
    trigger_own(tx, &told).await
}
