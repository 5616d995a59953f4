//! Agents, their tokens, and the gate that stops everything.

use jiff::Timestamp;
use ordinaut_schema::{
    action::Grants,
    id::{AgentId, TokenId},
};

use crate::{Store, StoreError};

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
        let _ = token;
        todo!("helper D")
    }

    /// The agent's own row: name, zone, grants. Works in both roles.
    pub async fn find_agent(&self, agent: AgentId) -> Result<AgentRecord, StoreError> {
        let _ = agent;
        todo!("helper D")
    }

    /// Makes an agent and its first token. Role executor only, like everything below.
    pub async fn add_agent(
        &self,
        name: &str,
        timezone: Option<&str>,
        grants: &Grants,
        scopes: &[String],
        expires_at: Option<Timestamp>,
    ) -> Result<(AgentId, NewToken), StoreError> {
        let _ = (name, timezone, grants, scopes, expires_at);
        todo!("helper D")
    }

    /// One more token for an agent.
    pub async fn add_token(
        &self,
        agent: &str,
        label: &str,
        scopes: &[String],
        expires_at: Option<Timestamp>,
    ) -> Result<NewToken, StoreError> {
        let _ = (agent, label, scopes, expires_at);
        todo!("helper D")
    }

    pub async fn list_agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        todo!("helper D")
    }

    /// Revokes an agent and its tokens; its tasks stay and are paused.
    pub async fn revoke_agent(&self, name: &str) -> Result<AgentId, StoreError> {
        let _ = name;
        todo!("helper D")
    }

    /// Stops all claims, of one agent or (`None`) of everyone.
    pub async fn shut_gate(&self, agent: Option<AgentId>, by: &str) -> Result<(), StoreError> {
        let _ = (agent, by);
        todo!("helper D")
    }

    pub async fn open_gate(&self, agent: Option<AgentId>) -> Result<(), StoreError> {
        let _ = agent;
        todo!("helper D")
    }
}
