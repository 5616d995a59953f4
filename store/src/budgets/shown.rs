//! Budgets as people set them and see them.

use ordinaut_schema::{
    budget::{Budget, BudgetStanding, Day, Month},
    id::AgentId,
    time::Zone,
};
use serde_json::json;
use sqlx::{PgConnection, Postgres, Transaction, types::Uuid};

use super::{
    counted::{Days, DaysOf, MonthOf, billionths, cost, money_of_months, runs_of_days},
    zone,
};
use crate::{
    Store, StoreError, View,
    agents::{lock_agent, operator},
    audit::audit,
    connection::transaction_now,
    error::Doing as _,
    tasks::TaskRecord,
};

/// No day is counted further for people.
const ENOUGH: u32 = 100_000;

/// What to make of an agent's budget.
#[derive(Debug, Clone, Copy, Default)]
pub struct BudgetChange {
    /// Forget what is limited now, before `limits` is set.
    pub clear: bool,
    /// Those that are named; the others stay.
    pub limits: Budget,
}

/// Whose budget is looked at.
enum Of<'a> {
    Task(&'a TaskRecord),
    Agent(AgentId),
}

impl Store {
    /// As [`View::task_budget`].
    pub async fn task_budget(
        &self,
        caller: &crate::Caller,
        task: &TaskRecord,
    ) -> Result<Option<BudgetStanding>, StoreError> {
        if task.spec.budget().is_empty() { Ok(None) } else { self.view(caller).await?.task_budget(task).await }
    }

    /// An agent's budget and what is used of it. Role executor only, as [`Store::set_agent_budget`].
    pub async fn agent_budget(&self, agent: &str) -> Result<BudgetStanding, StoreError> {
        let name = agent.to_owned();
        self.transaction("look at an agent's budget", move |mut tx| async move {
            let agent = lock_agent(&mut tx, &name).await?;
            Ok((look(&mut tx, agent).await?, tx))
        })
        .await
    }

    /// Changes an agent's budget: it holds for what is planned from now on, and for the next call of every run.
    pub async fn set_agent_budget(&self, agent: &str, change: BudgetChange) -> Result<BudgetStanding, StoreError> {
        let name = agent.to_owned();
        self.transaction("change an agent's budget", move |mut tx| async move {
            let agent = lock_agent(&mut tx, &name).await?;
            let now = if change.clear { Budget::default() } else { look(&mut tx, agent).await?.budget };
            let limits = Budget {
                max_runs_per_day: change.limits.max_runs_per_day.or(now.max_runs_per_day),
                max_cost_per_month: change.limits.max_cost_per_month.or(now.max_cost_per_month),
                max_tokens_per_run: change.limits.max_tokens_per_run.or(now.max_tokens_per_run),
            };
            write(&mut tx, agent, limits).await?;
            audit(&mut tx, &operator(agent), "change_budget", None, None, Some(json!(limits))).await?;
            Ok((look(&mut tx, agent).await?, tx))
        })
        .await
    }
}

impl View {
    /// What is used of a task's own budget; nothing, and no question, where it has none.
    pub async fn task_budget(&mut self, task: &TaskRecord) -> Result<Option<BudgetStanding>, StoreError> {
        let budget = task.spec.budget();
        if budget.is_empty() {
            return Ok(None);
        }
        let zone = zone(Some(&task.spec.timezone));
        let task = task.clone();
        self.ask_all("look at a task's budget", move |connection| {
            Box::pin(async move { stand(connection, &Of::Task(&task), budget, zone).await.map(Some) })
        })
        .await
    }
}

async fn write(tx: &mut Transaction<'_, Postgres>, agent: AgentId, limits: Budget) -> Result<(), StoreError> {
    if limits.is_empty() {
        sqlx::query!("delete from agent_budget where agent_id = $1", agent.uuid())
            .execute(&mut **tx)
            .await
            .doing("drop an agent's budget")?;
        return Ok(());
    }
    let whole = |limit: Option<u32>| limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
    sqlx::query!(
        "
        insert into agent_budget (agent_id, max_runs_per_day, max_cost_per_month, max_tokens_per_run)
        values ($1, $2, $3::bigint::numeric / 1000000000, $4)
        on conflict (agent_id) do update
        set max_runs_per_day = excluded.max_runs_per_day,
            max_cost_per_month = excluded.max_cost_per_month,
            max_tokens_per_run = excluded.max_tokens_per_run
        ",
        agent.uuid(),
        whole(limits.max_runs_per_day),
        limits.max_cost_per_month.map(billionths),
        whole(limits.max_tokens_per_run),
    )
    .execute(&mut **tx)
    .await
    .doing("write an agent's budget")?;
    Ok(())
}

async fn look(tx: &mut Transaction<'_, Postgres>, agent: AgentId) -> Result<BudgetStanding, StoreError> {
    let row = sqlx::query!(
        r#"
        select agent.timezone, agent_budget.max_runs_per_day as "max_runs_per_day?",
            agent_budget.max_tokens_per_run as "max_tokens_per_run?",
            (agent_budget.max_cost_per_month * 1000000000)::bigint as "max_cost_per_month?"
        from agent
        left join agent_budget on agent_budget.agent_id = agent.id
        where agent.id = $1
        "#,
        agent.uuid()
    )
    .fetch_one(&mut **tx)
    .await
    .doing("read an agent's budget")?;
    let budget = Budget {
        max_runs_per_day: row.max_runs_per_day.map(i32::unsigned_abs),
        max_cost_per_month: row.max_cost_per_month.map(cost),
        max_tokens_per_run: row.max_tokens_per_run.map(i32::unsigned_abs),
    };
    stand(tx, &Of::Agent(agent), budget, zone(row.timezone.as_deref())).await
}

async fn stand(tx: &mut PgConnection, of: &Of<'_>, budget: Budget, zone: Zone) -> Result<BudgetStanding, StoreError> {
    let now = transaction_now(tx).await?;
    let (day, month) = (Day::of(now, &zone), Month::of(now, &zone));
    let days = Days { zone: zone.clone(), from: now, to: now, enough: ENOUGH };
    let (owner, days, month_of) = match of {
        Of::Task(task) => {
            (task.id.uuid(), DaysOf::Tasks(vec![(task.id, days)]), MonthOf::task(task.agent, task.id, month))
        }
        Of::Agent(agent) => (agent.uuid(), DaysOf::Agents(vec![(*agent, days)]), MonthOf::agent(*agent, month)),
    };
    let runs = runs_of_days(tx, days).await?;
    let money = money_of_months(tx, &[month_of]).await?;
    let (spent, reserved) = money.get(&owner).copied().unwrap_or_default();
    let (tokens, calls) = used(tx, owner, month).await?;
    Ok(BudgetStanding {
        budget,
        runs_today: runs.get(&owner).and_then(|runs| runs.get(&day)).copied().unwrap_or_default(),
        day_ends_at: day.bounds(&zone).1,
        spent,
        tokens,
        calls,
        reserved,
        month_ends_at: month.ends_at(&zone),
        zone,
    })
}

async fn used(tx: &mut PgConnection, owner: Uuid, month: Month) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query!(
        "select tokens, calls from spending where owner_id = $1 and month = $2::text::date",
        owner,
        month.first_day()
    )
    .fetch_optional(tx)
    .await
    .doing("read the tokens of a month")?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(row.map(|row| (count(row.tokens), count(row.calls))).unwrap_or_default())
}
