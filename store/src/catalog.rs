//! What the operator's MCP servers offer, as executors last saw it.

use jiff::Timestamp;
use ordinaut_schema::action::{Catalogue, Descriptor, Offered};
use sqlx::{Postgres, Transaction};

use crate::{Caller, Store, StoreError, agents::AgentRecord, error::Doing as _, operator};

/// A tool that a server declares.
#[derive(Debug, Clone)]
pub struct SeenTool {
    pub tool: String,
    pub descriptor: Descriptor,
    /// SHA-256 over description and schema.
    pub sha256: [u8; 32],
}

/// A configured server.
#[derive(Debug, Clone)]
pub struct ServerRecord {
    pub name: String,
    pub seen_at: Option<Timestamp>,
    /// Why it could not be asked, the last time it was.
    pub error: Option<String>,
    pub tools: usize,
}

impl Store {
    /// Makes the configured servers those named, dropping what is gone.
    pub async fn set_servers(&self, names: &[String]) -> Result<(), StoreError> {
        let names = names.to_vec();
        self.transaction("set the configured servers", move |mut tx| async move {
            sqlx::query!("delete from mcp_server where name <> all ($1)", &names)
                .execute(&mut *tx)
                .await
                .doing("drop servers that are gone")?;
            sqlx::query!(
                "
                insert into mcp_server (name)
                select distinct name from unnest($1::text[]) as configured (name) order by name
                on conflict (name) do nothing
                ",
                &names,
            )
            .execute(&mut *tx)
            .await
            .doing("add new servers")?;
            Ok(((), tx))
        })
        .await
    }

    /// Writes what a server declares, or why it could not be asked: what it declared before stays then.
    ///
    /// A server that is not configured any more is left out silently: its answer came too late.
    pub async fn write_server(&self, server: &str, seen: Result<Vec<SeenTool>, String>) -> Result<(), StoreError> {
        let server = server.to_owned();
        self.transaction("write what a server declares", move |mut tx| async move {
            let (tools, error) = match seen {
                Ok(tools) => (Some(tools), None),
                Err(error) => (None, Some(error)),
            };
            // Locked by the update: of two executors that report at once, one comes after the other as a whole.
            let known = sqlx::query!(
                "
                update mcp_server
                set seen_at = case when $2::text is null then clock_timestamp() else seen_at end,
                    error = $2
                where name = $1
                ",
                server,
                error,
            )
            .execute(&mut *tx)
            .await
            .doing("write when a server was seen")?;
            if let Some(tools) = tools
                && known.rows_affected() == 1
            {
                write_tools(&mut tx, &server, &tools).await?;
            }
            Ok(((), tx))
        })
        .await
    }

    /// What `caller`'s steps may use: the tools seen, the servers never seen, the agent's grants.
    pub async fn catalogue(&self, caller: &Caller) -> Result<Catalogue, StoreError> {
        let agent = self.find_agent(caller.agent).await?;
        // Before the tools: a server that is seen just now is then in both, and not in neither.
        let unseen_servers = sqlx::query_scalar!("select name from mcp_server where seen_at is null order by name")
            .fetch_all(&self.pool)
            .await
            .doing("list servers never seen")?;
        let tools = sqlx::query!("select name, descriptor from action_catalog order by name")
            .fetch_all(&self.pool)
            .await
            .doing("list the tools of servers")?;
        let tools = tools
            .into_iter()
            .map(|tool| {
                let descriptor = serde_json::from_value(tool.descriptor)
                    .map_err(|error| StoreError::unreadable(format!("the descriptor of `{}`", tool.name), error))?;
                Ok((tool.name, descriptor))
            })
            .collect::<Result<_, StoreError>>()?;
        let offered = Offered { secrets: self.offered_secrets().await?, ..operator::offered_in(&self.pool).await? };
        let AgentRecord { grants, name: agent, cost_budget, .. } = agent;
        Ok(Catalogue { tools, unseen_servers, offered, grants, agent, cost_budget })
    }

    /// Every configured server, in order of name: when its tools were last seen, and what was wrong last time.
    pub async fn list_servers(&self) -> Result<Vec<ServerRecord>, StoreError> {
        let servers = sqlx::query!(
            r#"
            select mcp_server.name, mcp_server.seen_at as "seen_at: jiff_sqlx::Timestamp", mcp_server.error,
                (select count(*) from action_catalog where server = mcp_server.name) as "tools!"
            from mcp_server
            order by mcp_server.name
            "#
        )
        .fetch_all(&self.pool)
        .await
        .doing("list servers")?;
        let servers = servers.into_iter().map(|server| ServerRecord {
            name: server.name,
            seen_at: server.seen_at.map(jiff_sqlx::Timestamp::to_jiff),
            error: server.error,
            tools: usize::try_from(server.tools).unwrap_or(0),
        });
        Ok(servers.collect())
    }
}

async fn write_tools(tx: &mut Transaction<'_, Postgres>, server: &str, tools: &[SeenTool]) -> Result<(), StoreError> {
    let names: Vec<_> = tools.iter().map(|tool| format!("{server}.{}", tool.tool)).collect();
    let bare: Vec<_> = tools.iter().map(|tool| tool.tool.clone()).collect();
    let descriptors: Vec<_> = tools
        .iter()
        .map(|tool| serde_json::to_value(&tool.descriptor).expect("a descriptor has string keys"))
        .collect();
    let digests: Vec<_> = tools.iter().map(|tool| tool.sha256.to_vec()).collect();
    sqlx::query!("delete from action_catalog where server = $1 and name <> all ($2)", server, &names)
        .execute(&mut **tx)
        .await
        .doing("drop tools that are gone")?;
    sqlx::query!(
        "
        insert into action_catalog (name, server, tool, descriptor, sha256)
        select distinct on (seen.name) seen.name, $1, seen.tool, seen.descriptor, seen.sha256
        from unnest($2::text[], $3::text[], $4::jsonb[], $5::bytea[]) as seen (name, tool, descriptor, sha256)
        order by seen.name
        on conflict (name) do update
        set server = excluded.server,
            tool = excluded.tool,
            descriptor = excluded.descriptor,
            sha256 = excluded.sha256,
            seen_at = clock_timestamp()
        ",
        server,
        &names,
        &bare,
        &descriptors,
        &digests,
    )
    .execute(&mut **tx)
    .await
    .doing("write the tools of a server")?;
    Ok(())
}
