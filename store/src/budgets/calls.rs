//! Calls of models: what one may still use, before it is made; what it came to, when it was answered.
//!
//! What is read before a call belongs to no lock: calls that are under way at once may together pass a budget by what
//! their prompts cost. What they cost is written whoever holds the run's lease by then: the money is gone.

use ordinaut_schema::{
    budget::{Budget, Cost, Money, Month, Owner},
    id::{AgentId, RunId, TaskId},
    time::Zone,
};

use super::{counted::billionths, zone};
use crate::{Store, StoreError, error::Doing as _, unanswered::Within as _};

/// A run that is about to ask a model.
#[derive(Debug, Clone)]
pub struct Asking {
    pub agent: AgentId,
    pub task: TaskId,
    pub run: RunId,
    /// The task's own, as its definition says.
    pub budget: Budget,
    /// The task's.
    pub zone: Zone,
}

/// What budgets say of a call now.
#[derive(Debug, Clone)]
pub struct Budgeted {
    /// The smaller of the task's and the agent's `max_tokens_per_run`, with whose it is.
    pub most_tokens: Option<(u32, Owner)>,
    /// Used by the run so far.
    pub tokens_used: u64,
    /// Budgets of cost, the task's first, and the zone whose months they count.
    pub money: Vec<(Owner, Zone, Money)>,
    months: (Month, Month),
}

/// What an answer came to.
#[derive(Debug, Clone, Copy)]
pub struct Spending {
    pub tokens: u64,
    /// Nothing for a model without a price.
    pub cost: Cost,
    /// What of it the answer cost: that is what was set aside, prompts are not.
    pub of_answer: Cost,
}

impl Store {
    /// What a run may still use of models. One question, made before a call that takes seconds.
    pub async fn budget_for_call(&self, asking: &Asking) -> Result<Budgeted, StoreError> {
        let row = sqlx::query!(
            r#"
            select clock_timestamp() as "now!: jiff_sqlx::Timestamp",
                agent.timezone,
                agent_budget.max_tokens_per_run as "max_tokens_per_run?",
                (agent_budget.max_cost_per_month * 1000000000)::bigint as "max_cost_per_month?",
                coalesce((select tokens_used from due_work where run_id = $2), 0) as "tokens_used!"
            from agent
            left join agent_budget on agent_budget.agent_id = agent.id
            where agent.id = $1
            "#,
            asking.agent.uuid(),
            asking.run.uuid(),
        )
        .fetch_one(&self.pool)
        .within(self, "read the budget of a call")
        .await?;
        let now = row.now.to_jiff();
        let of_agent = zone(row.timezone.as_deref());
        let months = (Month::of(now, &asking.zone), Month::of(now, &of_agent));
        let limits = [
            (Owner::Task, asking.budget.max_cost_per_month, asking.task.uuid(), &asking.zone, months.0),
            (Owner::Agent, row.max_cost_per_month.map(super::counted::cost), asking.agent.uuid(), &of_agent, months.1),
        ];
        let mut money = Vec::new();
        for (owner, most, id, zone, month) in limits {
            let Some(most) = most else { continue };
            let spent = self.spent(id, month).await?;
            let of = Money { most, spent, reserved: Cost::ZERO, resets_at: month.ends_at(zone) };
            money.push((owner, zone.clone(), of));
        }
        let own = asking.budget.max_tokens_per_run.map(|most| (most, Owner::Task));
        let agents = row.max_tokens_per_run.map(|most| (most.unsigned_abs(), Owner::Agent));
        let most_tokens = own.into_iter().chain(agents).min_by_key(|(most, _)| *most);
        Ok(Budgeted { most_tokens, tokens_used: u64::try_from(row.tokens_used).unwrap_or(0), money, months })
    }

    async fn spent(&self, owner: sqlx::types::Uuid, month: Month) -> Result<Cost, StoreError> {
        let spent = sqlx::query_scalar!(
            r#"
            select (cost * 1000000000)::bigint as "spent!"
            from spending
            where owner_id = $1
              and month = $2::text::date
            "#,
            owner,
            month.first_day(),
        )
        .fetch_optional(&self.pool)
        .within(self, "read what a month has cost")
        .await?;
        Ok(spent.map(super::counted::cost).unwrap_or_default())
    }

    /// Writes what an answer came to, in the months in which its question was allowed, and takes it off what the run
    /// has set aside.
    pub async fn spend(&self, asking: &Asking, allowed: &Budgeted, spending: Spending) -> Result<(), StoreError> {
        let (of_task, of_agent) = allowed.months;
        let (agent, task, run) = (asking.agent, asking.task, asking.run);
        let tokens = i64::try_from(spending.tokens).unwrap_or(i64::MAX);
        // Runs without limits keep their rows as they are.
        let counts = allowed.most_tokens.is_some();
        // Apart from the call, whose time may be up just now.
        self.transaction("write what a call of a model came to", move |mut tx| async move {
            sqlx::query!(
                "
            with used as (
                update due_work
                set tokens_used = case when $8 then tokens_used + $6 else tokens_used end,
                    reserved_cost = case
                        when reserved_cost is not null
                            then greatest(reserved_cost - $9::bigint::numeric / 1000000000, 0)
                    end
                where run_id = $7
                  and ($8 or reserved_cost is not null)
            )
            insert into spending (agent_id, owner_id, month, cost, tokens, calls)
            select $1, owner.id, owner.month::date, $5::bigint::numeric / 1000000000, $6, 1
            from unnest(array[$1, $2]::uuid [], array[$3, $4]::text []) as owner (id, month)
            order by owner.id
            on conflict on constraint spending_pkey do update
            set cost = spending.cost + excluded.cost,
                tokens = spending.tokens + excluded.tokens,
                calls = spending.calls + 1
            ",
                agent.uuid(),
                task.uuid(),
                of_agent.first_day(),
                of_task.first_day(),
                billionths(spending.cost),
                tokens,
                run.uuid(),
                counts,
                billionths(spending.of_answer),
            )
            .execute(&mut *tx)
            .await
            .doing("write what a call of a model came to")?;
            Ok(((), tx))
        })
        .await
    }
}
