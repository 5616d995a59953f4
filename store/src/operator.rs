//! What the operator offers to steps, as executors publish it, and how much of it agents use.

use ordinaut_schema::{
    action::{Offered, Takes},
    budget::{Cost, Tariff},
    id::AgentId,
};
use sqlx::PgExecutor;

use crate::{Store, StoreError, error::Doing as _, unanswered::Within as _};

const CHANNEL: &str = "channel";
const MODEL: &str = "model";
const COMMAND: &str = "command";

impl Store {
    /// Makes what is offered exactly this. Executors over one database are expected to be configured alike: the last
    /// one that read its file is believed.
    pub async fn set_offered(&self, offered: &Offered) -> Result<(), StoreError> {
        let mut rows: Vec<(&str, String, String)> = Vec::new();
        for (kind, entries) in [(CHANNEL, &offered.channels), (MODEL, &offered.models), (COMMAND, &offered.commands)] {
            rows.extend(entries.iter().map(|(name, about)| (kind, name.clone(), about.clone())));
        }
        let kinds: Vec<String> = rows.iter().map(|row| row.0.to_owned()).collect();
        let names: Vec<String> = rows.iter().map(|row| row.1.clone()).collect();
        let abouts: Vec<String> = rows.iter().map(|row| row.2.clone()).collect();
        let is_default = |kind: &str, name: &String| kind == MODEL && offered.default_model.as_ref() == Some(name);
        let defaults: Vec<bool> = rows.iter().map(|row| is_default(row.0, &row.1)).collect();
        let tariff = |row: &(&str, String, String)| offered.tariffs.get(&row.1).filter(|_| row.0 == MODEL);
        let price = |of: fn(&Tariff) -> Cost| -> Vec<Option<i64>> {
            rows.iter().map(|row| Some(i64::try_from(of(tariff(row)?).billionths()).unwrap_or(i64::MAX))).collect()
        };
        let (inputs, outputs) = (price(|tariff| tariff.input), price(|tariff| tariff.output));
        let most: Vec<Option<i32>> =
            rows.iter().map(|row| Some(i32::try_from(tariff(row)?.max_tokens).unwrap_or(i32::MAX))).collect();
        let takes = |of: fn(Takes) -> bool| -> Vec<Option<bool>> {
            rows.iter().map(|row| offered.takes.get(&row.1).filter(|_| row.0 == COMMAND).copied().map(of)).collect()
        };
        let (takes_args, takes_stdin) = (takes(|takes| takes.args), takes(|takes| takes.stdin));
        self.transaction("publish what the operator offers", move |mut tx| async move {
            // Two executors that start together publish one after the other, each as a whole; readers see either.
            sqlx::query!("lock table offered in share row exclusive mode")
                .execute(&mut *tx)
                .await
                .doing("lock what is offered")?;
            sqlx::query!("delete from offered").execute(&mut *tx).await.doing("drop what was offered")?;
            sqlx::query!(
                "
                insert into offered (
                    kind, name, about, is_default, input_price, output_price, max_tokens, takes_args, takes_stdin
                )
                select kind, name, about, is_default, input_price::numeric / 1000000000, output_price::numeric / 1000000000,
                    max_tokens, takes_args, takes_stdin
                from unnest(
                    $1::text[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[], $7::integer[],
                    $8::boolean[], $9::boolean[]
                ) as now (
                    kind, name, about, is_default, input_price, output_price, max_tokens, takes_args, takes_stdin
                )
                ",
                &kinds,
                &names,
                &abouts,
                &defaults,
                &inputs as _,
                &outputs as _,
                &most as _,
                &takes_args as _,
                &takes_stdin as _,
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
        self.limited("read what is offered", offered_in(&self.pool)).await
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
        .within(self, "count a call of today")
        .await?;
        Ok(counted.is_some())
    }
}

pub(crate) async fn offered_in(db: impl PgExecutor<'_>) -> Result<Offered, StoreError> {
    let rows = sqlx::query!(
        "
        select kind, name, about, is_default, max_tokens, takes_args, takes_stdin, (input_price * 1000000000)::bigint as input_price,
            (output_price * 1000000000)::bigint as output_price
        from offered
        order by kind, name
        "
    )
    .fetch_all(db)
    .await
    .doing("list what the operator offers")?;
    let mut offered = Offered::default();
    for row in rows {
        if row.is_default {
            offered.default_model = Some(row.name.clone());
        }
        if let (Some(input), Some(output), Some(max_tokens)) = (row.input_price, row.output_price, row.max_tokens) {
            let cost = |billionths: i64| Cost::from_billionths(u64::try_from(billionths).unwrap_or(0));
            let tariff = Tariff { input: cost(input), output: cost(output), max_tokens: max_tokens.unsigned_abs() };
            offered.tariffs.insert(row.name.clone(), tariff);
        }
        if let (Some(args), Some(stdin)) = (row.takes_args, row.takes_stdin) {
            offered.takes.insert(row.name.clone(), Takes { args, stdin });
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
