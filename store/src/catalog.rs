//! What the operator's MCP servers offer: as it was accepted, and as executors last saw it.
//!
//! - `report`: executors write what servers declare; a tool is accepted as it is first seen, and stays so
//! - `pins`: what is accepted, read before calls; what differs, shown to a person and accepted by them
//!
//! Executors over one database are expected to be configured alike: of servers, the last one that read its file is
//! believed. Of tools, whoever sees something else than what is accepted is believed while it lives.

mod pins;
mod report;

use std::collections::BTreeMap;

use jiff::Timestamp;
use ordinaut_schema::action::{Catalogue, Change, Descriptor, Effect, Offered};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Caller, Store, StoreError, agents::AgentRecord, operator, unanswered::Within as _};

pub use pins::{Pin, ToolRecord};
pub use report::SeenTool;

/// SHA-256 over what is pinned of a tool.
pub type Digest = [u8; 32];

/// A configured server.
#[derive(Debug, Clone)]
pub struct ServerRecord {
    pub name: String,
    pub seen_at: Option<Timestamp>,
    /// Why it could not be asked, the last time it was.
    pub error: Option<String>,
    /// The operator believes what its tools say of themselves.
    pub trusted: bool,
    pub tools: usize,
    /// Those of its tools that are not what was accepted of them.
    pub changed: Vec<String>,
}

impl Store {
    /// What `caller`'s steps may use: the tools as accepted, those that changed since, the servers never seen, the
    /// agent's grants. What a server that is not trusted says of repeats is left out.
    pub async fn catalogue(&self, caller: &Caller) -> Result<Catalogue, StoreError> {
        let agent = self.find_agent(caller.agent).await?;
        // Before the tools: a server that is seen just now is then in both, and not in neither.
        let unseen_servers =
            sqlx::query_scalar!("select name from mcp_server where seen_at is null and gone_at is null order by name")
                .fetch_all(&self.pool)
                .within(self, "list servers never seen")
                .await?;
        let rows = sqlx::query!(
            "
            select action_catalog.name, action_catalog.descriptor, action_catalog.change, mcp_server.trusted
            from action_catalog
            join mcp_server on mcp_server.name = action_catalog.server
            where action_catalog.gone_at is null
              and mcp_server.gone_at is null
            order by action_catalog.name
            "
        )
        .fetch_all(&self.pool)
        .within(self, "list the tools of servers")
        .await?;
        let (mut tools, mut changed) = (BTreeMap::new(), BTreeMap::new());
        for row in rows {
            let mut descriptor: Descriptor = read(row.descriptor, "the descriptor", &row.name)?;
            if !row.trusted {
                descriptor.effect = Effect::Once;
            }
            if let Some(change) = row.change {
                changed.insert(row.name.clone(), read::<Change>(change, "the change", &row.name)?);
            }
            tools.insert(row.name, descriptor);
        }
        let offered = Offered { secrets: self.offered_secrets().await?, ..operator::offered_in(&self.pool).await? };
        let AgentRecord { grants, name: agent, cost_budget, .. } = agent;
        Ok(Catalogue { tools, changed, unseen_servers, offered, grants, agent, cost_budget })
    }

    /// Every configured server, in order of name: when its tools were last seen, and what was wrong last time.
    pub async fn list_servers(&self) -> Result<Vec<ServerRecord>, StoreError> {
        let servers = sqlx::query!(
            r#"
            select mcp_server.name, mcp_server.seen_at as "seen_at: jiff_sqlx::Timestamp", mcp_server.error,
                mcp_server.trusted,
                (select count(*) from action_catalog
                    where server = mcp_server.name and action_catalog.gone_at is null) as "tools!",
                array (select tool from action_catalog
                    where server = mcp_server.name and action_catalog.gone_at is null and change is not null
                    order by tool) as "changed!"
            from mcp_server
            where mcp_server.gone_at is null
            order by mcp_server.name
            "#
        )
        .fetch_all(&self.pool)
        .within(self, "list servers")
        .await?;
        let servers = servers.into_iter().map(|server| ServerRecord {
            name: server.name,
            seen_at: server.seen_at.map(jiff_sqlx::Timestamp::to_jiff),
            error: server.error,
            trusted: server.trusted,
            tools: usize::try_from(server.tools).unwrap_or(0),
            changed: server.changed,
        });
        Ok(servers.collect())
    }
}

fn read<T: DeserializeOwned>(value: Value, what: &str, name: &str) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::unreadable(format!("{what} of `{name}`"), error))
}

fn digest(bytes: &[u8], name: &str) -> Result<Digest, StoreError> {
    bytes.try_into().map_err(|error| StoreError::unreadable(format!("the digest of `{name}`"), error))
}
