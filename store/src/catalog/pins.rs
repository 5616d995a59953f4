//! What is accepted of tools, and the person's word that changes it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ordinaut_schema::action::{Descriptor, Effect};
use serde_json::{Value, json};

use super::{Digest, digest, read};
use crate::{Caller, Store, StoreError, audit::audit, error::Doing as _, unanswered::Within as _};

/// What is accepted of one tool: all that a call is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    pub sha256: Digest,
    /// As the server declares it; whether that counts is the operator's to say.
    pub effect: Effect,
}

/// A tool as a person looks at it.
#[derive(Debug, Clone)]
pub struct ToolRecord {
    pub tool: String,
    pub accepted: Descriptor,
    pub sha256: Digest,
    pub accepted_at: Timestamp,
    pub accepted_by: String,
    /// What is seen of it now, where that is something else.
    pub seen: Option<(Descriptor, Digest)>,
    /// Since when its server does not list it.
    pub gone_at: Option<Timestamp>,
}

impl Store {
    /// What is accepted, of every tool that was ever seen.
    pub async fn pins(&self) -> Result<BTreeMap<String, Pin>, StoreError> {
        let rows = sqlx::query!(r#"select name, sha256, descriptor -> 'effect' as "effect!" from action_catalog"#)
            .fetch_all(&self.pool)
            .within(self, "read what is accepted of tools")
            .await?;
        rows.into_iter().map(|row| Ok((row.name.clone(), pin(&row.name, &row.sha256, row.effect)?))).collect()
    }

    /// What is accepted of one tool; nothing where it was never seen.
    pub async fn pin(&self, name: &str) -> Result<Option<Pin>, StoreError> {
        let row = sqlx::query!(
            r#"select sha256, descriptor -> 'effect' as "effect!" from action_catalog where name = $1"#,
            name
        )
        .fetch_optional(&self.pool)
        .within(self, "read what is accepted of a tool")
        .await?;
        row.map(|row| pin(name, &row.sha256, row.effect)).transpose()
    }

    /// Every tool of a server that was ever seen, in order of name. For executors' and the operator's programs only.
    pub async fn list_tools(&self, server: &str) -> Result<Vec<ToolRecord>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"
            select tool, descriptor, sha256, accepted_at as "accepted_at: jiff_sqlx::Timestamp", accepted_by,
                seen_descriptor, seen_sha256, gone_at as "gone_at: jiff_sqlx::Timestamp"
            from action_catalog
            where server = $1
            order by tool
            "#,
            server,
        )
        .fetch_all(&self.pool)
        .within(self, "list the tools of a server")
        .await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// Accepts tools of a server as they were shown to a person, each by its digest: all of them, or none.
    ///
    /// # Errors
    /// [`StoreError::NotAsShown`] when one of them is not, or no more, what was shown.
    pub async fn accept_tools(
        &self,
        by: &Caller,
        server: &str,
        shown: &BTreeMap<String, Digest>,
    ) -> Result<(), StoreError> {
        let (by, server) = (by.clone(), server.to_owned());
        let tools: Vec<String> = shown.keys().cloned().collect();
        let digests: Vec<Vec<u8>> = shown.values().map(|sha256| sha256.to_vec()).collect();
        self.transaction("accept tools", move |mut tx| async move {
            // As reports take it, and before the rows, as they do.
            sqlx::query!("select name from mcp_server where name = $1 for update", server)
                .fetch_optional(&mut *tx)
                .await
                .doing("lock a server")?;
            let accepted = sqlx::query!(
                r#"
                with shown as (
                    select catalog.name, catalog.sha256 as former
                    from unnest($2::text[], $3::bytea[]) as shown (tool, sha256)
                    join action_catalog as catalog
                      on catalog.server = $1
                     and catalog.tool = shown.tool
                     and catalog.seen_sha256 = shown.sha256
                     and catalog.gone_at is null
                )
                update action_catalog
                set descriptor = seen_descriptor,
                    sha256 = seen_sha256,
                    seen_descriptor = null,
                    seen_sha256 = null,
                    change = null,
                    accepted_at = clock_timestamp(),
                    accepted_by = $4
                from shown
                where action_catalog.name = shown.name
                returning action_catalog.tool, action_catalog.sha256, shown.former
                "#,
                server,
                &tools,
                &digests,
                by.principal,
            )
            .fetch_all(&mut *tx)
            .await
            .doing("accept tools")?;
            let missing: Vec<_> =
                tools.into_iter().filter(|tool| !accepted.iter().any(|row| row.tool == *tool)).collect();
            if !missing.is_empty() {
                return Err(StoreError::NotAsShown { server, tools: missing });
            }
            for row in accepted {
                let detail = json!({
                    "server": server,
                    "tool": row.tool,
                    "sha256": hex::encode(row.sha256),
                    "former": hex::encode(row.former),
                });
                audit(&mut tx, &by, "accept_tool", None, None, Some(detail)).await?;
            }
            Ok(((), tx))
        })
        .await
    }
}

struct Row {
    tool: String,
    descriptor: Value,
    sha256: Vec<u8>,
    accepted_at: jiff_sqlx::Timestamp,
    accepted_by: String,
    seen_descriptor: Option<Value>,
    seen_sha256: Option<Vec<u8>>,
    gone_at: Option<jiff_sqlx::Timestamp>,
}

impl Row {
    fn into_record(self) -> Result<ToolRecord, StoreError> {
        let tool = self.tool;
        let seen = match self.seen_descriptor.zip(self.seen_sha256) {
            Some((descriptor, sha256)) => Some((read(descriptor, "the descriptor", &tool)?, digest(&sha256, &tool)?)),
            None => None,
        };
        Ok(ToolRecord {
            accepted: read(self.descriptor, "the descriptor", &tool)?,
            sha256: digest(&self.sha256, &tool)?,
            accepted_at: self.accepted_at.to_jiff(),
            accepted_by: self.accepted_by,
            seen,
            gone_at: self.gone_at.map(jiff_sqlx::Timestamp::to_jiff),
            tool,
        })
    }
}

fn pin(name: &str, sha256: &[u8], effect: Value) -> Result<Pin, StoreError> {
    let effect: Effect = read(effect, "the effect", name)?;
    Ok(Pin { sha256: digest(sha256, name)?, effect })
}
