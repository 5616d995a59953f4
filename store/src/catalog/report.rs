//! What executors report of servers and their tools.

use std::collections::{BTreeMap, BTreeSet};

use ordinaut_schema::{
    action::{Change, Descriptor},
    operator::Server,
};
use serde_json::Value;
use sqlx::{Postgres, Transaction, types::Uuid};

use super::{Digest, digest, read};
use crate::{Store, StoreError, error::Doing as _};

/// How many tools of one server are kept, those that are gone among them: a server that always invents new ones fills
/// nothing, and cannot have an old one forgotten either.
const MOST_TOOLS: usize = 1000;

/// A tool that a server declares.
#[derive(Debug, Clone)]
pub struct SeenTool {
    pub tool: String,
    pub descriptor: Descriptor,
    /// Over everything of it that models read or that decides about calls.
    pub sha256: Digest,
}

/// A tool that is known already.
struct Known {
    tool: String,
    descriptor: Value,
    sha256: Vec<u8>,
    seen_sha256: Option<Vec<u8>>,
    is_gone: bool,
    /// Another executor, which is alive, reported it last.
    is_anothers: bool,
}

/// What becomes of the row of a tool that is known.
struct Sight {
    name: String,
    descriptor: Value,
    /// Where it differs from what is accepted.
    difference: Option<(Vec<u8>, Value, Value)>,
}

/// What a report comes to.
#[derive(Default)]
struct Outcome {
    new: Vec<SeenTool>,
    seen: Vec<Sight>,
    gone: Vec<String>,
    /// Differences that nobody had reported yet.
    changed: BTreeMap<String, Change>,
    left_out: usize,
}

impl Store {
    /// Makes the configured servers those named. What is known of one that is gone stays, for when it comes back.
    pub async fn set_servers(&self, servers: &BTreeMap<String, Server>) -> Result<(), StoreError> {
        let names: Vec<String> = servers.keys().cloned().collect();
        let trusted: Vec<bool> = servers.values().map(|server| server.trusted).collect();
        self.transaction("set the configured servers", move |mut tx| async move {
            sqlx::query!(
                "
                update mcp_server
                set gone_at = clock_timestamp()
                where gone_at is null
                  and name <> all ($1)
                ",
                &names,
            )
            .execute(&mut *tx)
            .await
            .doing("mark servers that are gone")?;
            sqlx::query!(
                "
                insert into mcp_server (name, trusted)
                select name, trusted from unnest($1::text[], $2::boolean[]) as configured (name, trusted) order by name
                on conflict (name) do update
                set trusted = excluded.trusted,
                    gone_at = null,
                    -- One that was away has yet to say what it is now.
                    seen_at = case when mcp_server.gone_at is null then mcp_server.seen_at end
                ",
                &names,
                &trusted,
            )
            .execute(&mut *tx)
            .await
            .doing("add new servers")?;
            Ok(((), tx))
        })
        .await
    }

    /// Writes what a server declares to the executor `by`, or why it could not be asked: what it declared before stays
    /// then. Answers which tools differ from what is accepted, where nobody had said so yet.
    ///
    /// A tool that was never seen is accepted as it is. Whoever sees what is accepted does not take back what another
    /// executor, which is alive, sees differently: only that one does, or its end.
    pub async fn write_server(
        &self,
        server: &str,
        by: Uuid,
        seen: Result<Vec<SeenTool>, String>,
    ) -> Result<BTreeMap<String, Change>, StoreError> {
        let server = server.to_owned();
        self.transaction("write what a server declares", move |mut tx| async move {
            let (tools, error) = match seen {
                Ok(tools) => (Some(tools), None),
                Err(error) => (None, Some(error)),
            };
            // Locked by this: of two executors that report at once, one comes after the other as a whole.
            sqlx::query!(
                "
                insert into mcp_server (name, seen_at, error)
                values ($1, case when $2::text is null then clock_timestamp() end, $2)
                on conflict (name) do update
                set seen_at = coalesce(excluded.seen_at, mcp_server.seen_at),
                    error = excluded.error,
                    gone_at = null
                ",
                server,
                error,
            )
            .execute(&mut *tx)
            .await
            .doing("write when a server was seen")?;
            let Some(tools) = tools else { return Ok((BTreeMap::new(), tx)) };
            let known = known(&mut tx, &server, by).await?;
            let outcome = decide(&server, known, tools)?;
            if outcome.left_out > 0 {
                let (left_out, server) = (outcome.left_out, &server);
                tracing::warn!(%server, "{left_out} tools of `{server}` are left out: it has had {MOST_TOOLS} already");
            }
            add(&mut tx, &server, by, &outcome.new).await?;
            note(&mut tx, by, outcome.seen).await?;
            let gone = outcome.gone;
            sqlx::query!("update action_catalog set gone_at = clock_timestamp() where name = any ($1)", &gone)
                .execute(&mut *tx)
                .await
                .doing("mark tools that are gone")?;
            Ok((outcome.changed, tx))
        })
        .await
    }
}

async fn known(tx: &mut Transaction<'_, Postgres>, server: &str, by: Uuid) -> Result<Vec<Known>, StoreError> {
    sqlx::query_as!(
        Known,
        r#"
        select tool, descriptor, sha256, seen_sha256, gone_at is not null as "is_gone!",
            (seen_by <> $2 and exists (
                select from executor
                where executor.id = action_catalog.seen_by
                  and executor.state <> 'stopped'
                  and executor.seen_at > clock_timestamp() - interval '1 minute'
            )) is true as "is_anothers!"
        from action_catalog
        where server = $1
        order by name
        for update
        "#,
        server,
        by,
    )
    .fetch_all(&mut **tx)
    .await
    .doing("read what is known of a server's tools")
}

/// Compares a report with what is known.
fn decide(server: &str, known: Vec<Known>, tools: Vec<SeenTool>) -> Result<Outcome, StoreError> {
    let mut outcome = Outcome::default();
    let mut reported: BTreeMap<String, SeenTool> = BTreeMap::new();
    for tool in tools {
        reported.entry(tool.tool.clone()).or_insert(tool);
    }
    let room = MOST_TOOLS.saturating_sub(known.len());
    let names: BTreeSet<String> = known.iter().map(|tool| tool.tool.clone()).collect();
    for row in known {
        let name = format!("{server}.{}", row.tool);
        let Some(tool) = reported.remove(&row.tool) else {
            if !row.is_gone && !row.is_anothers {
                outcome.gone.push(name);
            }
            continue;
        };
        let now = serde_json::to_value(&tool.descriptor).expect("a descriptor has string keys");
        if digest(&row.sha256, &name)? == tool.sha256 {
            if row.seen_sha256.is_none() || !row.is_anothers {
                // Of the same digest, but perhaps written by a program that knew less of it.
                outcome.seen.push(Sight { name, descriptor: now, difference: None });
            }
            continue;
        }
        let change = Change::between(&read(row.descriptor.clone(), "the descriptor", &name)?, &tool.descriptor);
        if row.seen_sha256.as_deref() != Some(&tool.sha256[..]) {
            outcome.changed.insert(row.tool, change);
        }
        let change = serde_json::to_value(change).expect("a change has string keys");
        let difference = Some((tool.sha256.to_vec(), now, change));
        outcome.seen.push(Sight { name, descriptor: row.descriptor, difference });
    }
    let new = reported.into_values().filter(|tool| !names.contains(&tool.tool));
    for tool in new {
        if outcome.new.len() < room {
            outcome.new.push(tool);
        } else {
            outcome.left_out += 1;
        }
    }
    Ok(outcome)
}

async fn add(tx: &mut Transaction<'_, Postgres>, server: &str, by: Uuid, tools: &[SeenTool]) -> Result<(), StoreError> {
    let names: Vec<_> = tools.iter().map(|tool| format!("{server}.{}", tool.tool)).collect();
    let bare: Vec<_> = tools.iter().map(|tool| tool.tool.clone()).collect();
    let descriptors: Vec<_> = tools
        .iter()
        .map(|tool| serde_json::to_value(&tool.descriptor).expect("a descriptor has string keys"))
        .collect();
    let digests: Vec<_> = tools.iter().map(|tool| tool.sha256.to_vec()).collect();
    sqlx::query!(
        "
        insert into action_catalog (name, server, tool, descriptor, sha256, seen_by)
        select seen.name, $1, seen.tool, seen.descriptor, seen.sha256, $6
        from unnest($2::text[], $3::text[], $4::jsonb[], $5::bytea[]) as seen (name, tool, descriptor, sha256)
        order by seen.name
        ",
        server,
        &names,
        &bare,
        &descriptors,
        &digests,
        by,
    )
    .execute(&mut **tx)
    .await
    .doing("accept new tools of a server")?;
    Ok(())
}

async fn note(tx: &mut Transaction<'_, Postgres>, by: Uuid, seen: Vec<Sight>) -> Result<(), StoreError> {
    let (mut names, mut accepted) = (Vec::new(), Vec::new());
    let (mut digests, mut descriptors, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for sight in seen {
        names.push(sight.name);
        accepted.push(sight.descriptor);
        let (digest, descriptor, change) = sight
            .difference
            .map_or((None, None, None), |(digest, descriptor, change)| (Some(digest), Some(descriptor), Some(change)));
        digests.push(digest);
        descriptors.push(descriptor);
        changes.push(change);
    }
    sqlx::query!(
        "
        update action_catalog
        set descriptor = seen.accepted,
            seen_sha256 = seen.sha256,
            seen_descriptor = seen.descriptor,
            change = seen.change,
            seen_by = $6,
            seen_at = clock_timestamp(),
            gone_at = null
        from unnest($1::text[], $2::jsonb[], $3::bytea[], $4::jsonb[], $5::jsonb[])
            as seen (name, accepted, sha256, descriptor, change)
        where action_catalog.name = seen.name
        ",
        &names,
        &accepted,
        &digests as &[Option<Vec<u8>>],
        &descriptors as &[Option<Value>],
        &changes as &[Option<Value>],
        by,
    )
    .execute(&mut **tx)
    .await
    .doing("write what was seen of a server's tools")?;
    Ok(())
}
