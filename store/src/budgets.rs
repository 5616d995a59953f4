//! Budgets: what tasks and agents have left, for whoever plans runs; what models cost, when they are asked.
//!
//! A task's budget is decided under the task's lock. An agent's is decided under the lock of its `agent_budget` row,
//! which is waited for after tasks and before dedupe keys and runs, in order of agents: of several planners one counts
//! after the other. Agents without a budget have no such row, and nothing is waited for, nor read, on their behalf.
//!
//! Runs and reservations are counted each time, never remembered, so nothing leaks; what was spent is in `spending`.
//!
//! - here: locking, counting, and taking, for whoever plans
//! - `counted` reads; `calls` is for whoever asks a model; `shown` for people

mod calls;
mod counted;
mod shown;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ordinaut_schema::{
    budget::{Allowance, Budget, Cost, Exhausted, Money, Month, Owner, RunsOfDays},
    id::{AgentId, TaskId},
    run::Trigger,
    task::TaskSpec,
    time::Zone,
};
use sqlx::{Postgres, Transaction};

use self::counted::{DaysOf, MonthOf, money_of_months, runs_of_days};
use crate::{
    StoreError,
    admission::{LockedTask, NewRun},
    connection::transaction_now,
    error::Doing as _,
    operator::offered_in,
};

pub use calls::{Asking, Budgeted, Spending};
pub use shown::BudgetChange;

/// An agent's budget and the zone whose days it counts: the agent's, else UTC.
#[derive(Debug, Clone)]
pub(crate) struct AgentBudget {
    pub(crate) budget: Budget,
    pub(crate) zone: Zone,
}

/// Agents that have a budget, locked by this transaction.
pub(crate) type LockedAgents = BTreeMap<AgentId, AgentBudget>;

/// A task of which occurrences between two instants are to be decided.
pub(crate) struct Wanted<'a> {
    pub(crate) task: &'a LockedTask,
    pub(crate) spec: &'a TaskSpec,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// What is left, as runs take of it.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    tasks: BTreeMap<TaskId, Allowance>,
    agents: BTreeMap<AgentId, Allowance>,
    /// What one run of a task sets aside, where a budget of cost applies.
    reservations: BTreeMap<TaskId, Cost>,
}

/// Locks the budgets of those agents that have one, in order of agents.
pub(crate) async fn lock_agents(
    tx: &mut Transaction<'_, Postgres>,
    agents: &BTreeSet<AgentId>,
) -> Result<LockedAgents, StoreError> {
    if agents.is_empty() {
        return Ok(LockedAgents::new());
    }
    let rows = sqlx::query!(
        r#"
        select agent_budget.agent_id, agent_budget.max_runs_per_day, agent_budget.max_tokens_per_run,
            (agent_budget.max_cost_per_month * 1000000000)::bigint as max_cost_per_month, agent.timezone
        from agent_budget
        join agent on agent.id = agent_budget.agent_id
        where agent_budget.agent_id = any ($1)
          -- A limit of tokens says nothing about what runs.
          and (agent_budget.max_runs_per_day is not null or agent_budget.max_cost_per_month is not null)
        order by agent_budget.agent_id
        for no key update of agent_budget
        "#,
        &agents.iter().map(|agent| agent.uuid()).collect::<Vec<_>>()
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock the budgets of agents")?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let budget = Budget {
                max_runs_per_day: row.max_runs_per_day.map(i32::unsigned_abs),
                max_cost_per_month: row.max_cost_per_month.map(counted::cost),
                max_tokens_per_run: row.max_tokens_per_run.map(i32::unsigned_abs),
            };
            (AgentId::from_uuid(row.agent_id), AgentBudget { budget, zone: zone(row.timezone.as_deref()) })
        })
        .collect())
}

/// The zone of that name, which was one when it was kept; UTC without one.
fn zone(name: Option<&str>) -> Zone {
    name.and_then(Zone::find).unwrap_or_else(Zone::utc)
}

/// The days of one budget that are to be counted, and its money.
struct Counting {
    owner: Owner,
    zone: Zone,
    budget: Budget,
    from: Timestamp,
    to: Timestamp,
}

impl Counting {
    fn reaching(self, from: Timestamp, to: Timestamp) -> Self {
        Self { from: self.from.min(from), to: self.to.max(to), ..self }
    }
}

impl Budgets {
    /// Counts what is left for these tasks, whose rows are locked, and for those of their agents that have a budget.
    /// Where nobody has any, nothing is asked of the database.
    pub(crate) async fn count(
        tx: &mut Transaction<'_, Postgres>,
        agents: &LockedAgents,
        wanted: &[Wanted<'_>],
    ) -> Result<Self, StoreError> {
        let mut of_tasks: BTreeMap<TaskId, (AgentId, Counting)> = BTreeMap::new();
        let mut of_agents: BTreeMap<AgentId, Counting> = BTreeMap::new();
        for &Wanted { task, spec, from, to } in wanted {
            let budget = spec.budget();
            if budget.bears_on_planning() {
                let zone = zone(Some(&spec.timezone));
                of_tasks.insert(task.id, (task.agent, Counting { owner: Owner::Task, zone, budget, from, to }));
            }
            if let Some(AgentBudget { budget, zone }) =
                agents.get(&task.agent).filter(|agent| agent.budget.bears_on_planning())
            {
                let counting = of_agents.remove(&task.agent).unwrap_or_else(|| Counting {
                    owner: Owner::Agent,
                    zone: zone.clone(),
                    budget: *budget,
                    from,
                    to,
                });
                of_agents.insert(task.agent, counting.reaching(from, to));
            }
        }
        if of_tasks.is_empty() && of_agents.is_empty() {
            return Ok(Self::default());
        }
        let now = transaction_now(tx).await?;
        let mut budgets = Self::default();
        let runs = runs_of_days(
            tx,
            DaysOf::Tasks(of_tasks.iter().filter_map(|(task, (_, it))| Some((*task, it.days()?))).collect()),
        )
        .await?;
        let days = of_agents.iter().filter_map(|(agent, it)| Some((*agent, it.days()?))).collect();
        let runs_of_agents = runs_of_days(tx, DaysOf::Agents(days)).await?;
        let months: Vec<MonthOf> = of_tasks
            .iter()
            .filter_map(|(task, (agent, it))| it.month(now).map(|month| MonthOf::task(*agent, *task, month)))
            .chain(of_agents.iter().filter_map(|(agent, it)| it.month(now).map(|month| MonthOf::agent(*agent, month))))
            .collect();
        let money = money_of_months(tx, &months).await?;
        for (task, (_, counting)) in of_tasks {
            let id = task.uuid();
            let allowance = counting.allowance(now, runs.get(&id).cloned(), money.get(&id).copied());
            budgets.tasks.insert(task, allowance);
        }
        for (agent, counting) in of_agents {
            let id = agent.uuid();
            let allowance = counting.allowance(now, runs_of_agents.get(&id).cloned(), money.get(&id).copied());
            budgets.agents.insert(agent, allowance);
        }
        budgets.reserve(tx, wanted).await?;
        Ok(budgets)
    }

    /// Works out what runs set aside, where a budget of cost applies.
    async fn reserve(&mut self, tx: &mut Transaction<'_, Postgres>, wanted: &[Wanted<'_>]) -> Result<(), StoreError> {
        let costly = |it: &Wanted<'_>| self.allowances(it.task).any(|allowance| allowance.money.is_some());
        let costly: Vec<_> = wanted.iter().filter(|it| costly(it)).collect();
        if costly.is_empty() {
            return Ok(());
        }
        let offered = offered_in(&mut **tx).await?;
        self.reservations = costly.into_iter().map(|it| (it.task.id, it.spec.reservation(&offered))).collect();
        Ok(())
    }

    fn allowances(&self, task: &LockedTask) -> impl Iterator<Item = &Allowance> {
        self.tasks.get(&task.id).into_iter().chain(self.agents.get(&task.agent))
    }

    /// What is left for a task, and what one run of it sets aside.
    pub(crate) fn left(&self, task: &LockedTask) -> (Vec<Allowance>, Cost) {
        (self.allowances(task).cloned().collect(), self.reservations.get(&task.id).copied().unwrap_or_default())
    }

    /// Whether a run fits.
    ///
    /// # Errors
    /// What is used up.
    pub(crate) fn allows(&self, task: &LockedTask, run: &NewRun) -> Result<(), Exhausted> {
        let needed = self.reservations.get(&task.id).copied().unwrap_or_default();
        self.allowances(task).try_for_each(|allowance| allowance.allows(counted_for(run), needed))
    }

    /// Takes what a run needs, and notes it on the run.
    pub(crate) fn take(&mut self, run: &mut NewRun) {
        run.reserved = self.reservations.get(&run.task).copied();
        let needed = run.reserved.unwrap_or_default();
        for allowance in self.tasks.get_mut(&run.task).into_iter().chain(self.agents.get_mut(&run.agent)) {
            allowance.take(counted_for(run), needed);
        }
    }
}

/// The instant whose day a run counts for; a retry is no run more.
fn counted_for(run: &NewRun) -> Option<Timestamp> {
    (run.trigger != Trigger::Retry).then_some(run.occurrence_at)
}

impl Counting {
    /// The days to count runs of, and how many a day are enough; nothing where runs are not limited, or none is due.
    fn days(&self) -> Option<counted::Days> {
        let enough = self.budget.max_runs_per_day?;
        Some(counted::Days { zone: self.zone.clone(), from: self.from, to: self.to, enough })
    }

    fn month(&self, now: Timestamp) -> Option<Month> {
        self.budget.max_cost_per_month.map(|_| Month::of(now, &self.zone))
    }

    fn allowance(self, now: Timestamp, runs: Option<counted::Runs>, money: Option<(Cost, Cost)>) -> Allowance {
        let Self { owner, zone, budget, .. } = self;
        let (spent, reserved) = money.unwrap_or_default();
        Allowance {
            owner,
            runs: budget.max_runs_per_day.map(|most| RunsOfDays { most, planned: runs.unwrap_or_default() }),
            money: budget.max_cost_per_month.map(|most| Money {
                most,
                spent,
                reserved,
                resets_at: Month::of(now, &zone).ends_at(&zone),
            }),
            zone,
        }
    }
}
