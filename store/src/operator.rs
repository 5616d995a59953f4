//! What the operator offers to steps, as executors publish it, and how much of it agents use.

use ordinaut_schema::{action::Offered, id::AgentId};
use sqlx::PgPool;

use crate::{Store, StoreError, error::Doing as _};

const CHANNEL: &str = "channel";
const MODEL: &str = "model";
const COMMAND: &str = "command";

impl Store {
    /// Makes what is offered exactly this. Executors over one database are expected to be configured alike: the last
    /// one that read its file is believed.
    pub async fn set_offered(&self, offered: &Offered) -> Result<(), StoreError> {
        let mut rows: Vec<(&str, String, String, bool)> = Vec::new();
        for (kind, entries) in [(CHANNEL, &offered.channels), (MODEL, &offered.models), (COMMAND, &offered.commands)] {
            for (name, about) in entries {
                let is_default = kind == MODEL && offered.default_model.as_ref() == Some(name);
                rows.push((kind, name.clone(), about.clone(), is_default));
            }
        }
        let kinds: Vec<String> = rows.iter().map(|row| row.0.to_owned()).collect();
        let names: Vec<String> = rows.iter().map(|row| row.1.clone()).collect();
        let abouts: Vec<String> = rows.iter().map(|row| row.2.clone()).collect();
        let defaults: Vec<bool> = rows.iter().map(|row| row.3).collect();
        self.transaction("publish what the operator offers", move |mut tx| async move {
            // Two executors that start together publish one after the other, each as a whole; readers see either.
            sqlx::query!("lock table offered in share row exclusive mode")
                .execute(&mut *tx)
                .await
                .doing("lock what is offered")?;
            sqlx::query!("delete from offered").execute(&mut *tx).await.doing("drop what was offered")?;
            sqlx::query!(
                "
                insert into offered (kind, name, about, is_default)
                select kind, name, about, is_default
                from unnest($1::text[], $2::text[], $3::text[], $4::boolean[]) as now (kind, name, about, is_default)
                ",
                &kinds,
                &names,
                &abouts,
                &defaults,
            )
            .execute(&mut *tx)
            .await
            .doing("write what is offered")?;
            Ok(((), tx))
        })
        .await
    }

    /// What definitions may name, as the last executor published it.
    pub async fn offered(&self) -> Result<Offered, StoreError> {
        offered(&self.pool).await
    }

    /// Counts one call of `what` by an agent, today (UTC), unless it has had `most` of them already.
    ///
    /// Answers whether it was within the limit. A call that fails afterwards stays counted: it was made.
    pub async fn count_call(&self, agent: AgentId, what: &str, most: u32) -> Result<bool, StoreError> {
        let counted = sqlx::query_scalar!(
            "
            with old as (
                delete from daily_calls
                where agent_id = $1
                  and day < (now() at time zone 'UTC')::date - 7
            )
            insert into daily_calls (agent_id, what, day, calls)
            values ($1, $2, (now() at time zone 'UTC')::date, 1)
            on conflict on constraint daily_calls_pkey do update
            set calls = daily_calls.calls + 1
            where daily_calls.calls < $3
            returning calls
            ",
            agent.uuid(),
            what,
            i32::try_from(most).unwrap_or(i32::MAX),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("count a call of today")?;
        Ok(counted.is_some())
    }
}

pub(crate) async fn offered(pool: &PgPool) -> Result<Offered, StoreError> {
    let rows = sqlx::query!("select kind, name, about, is_default from offered order by kind, name")
        .fetch_all(pool)
        .await
        .doing("list what the operator offers")?;
    let mut offered = Offered::default();
    for row in rows {
        if row.is_default {
            offered.default_model = Some(row.name.clone());
        }
        let entries = match row.kind.as_str() {
            CHANNEL => &mut offered.channels,
            MODEL => &mut offered.models,
            _ => &mut offered.commands,
        };
        entries.insert(row.name, row.about);
    }
    Ok(offered)
}
