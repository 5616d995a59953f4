//! What is counted of budgets: runs of days, money of months.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ordinaut_schema::{
    budget::{Cost, Day, Month},
    id::{AgentId, RunId, TaskId},
    time::Zone,
};
use sqlx::{PgConnection, types::Uuid};

use crate::{StoreError, error::Doing as _};

/// Runs by the day they are for.
pub(super) type Runs = BTreeMap<Day, u32>;

/// Which days to count.
pub(super) struct Days {
    pub(super) zone: Zone,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Nobody asks for more.
    pub(super) enough: u32,
}

/// Whose days.
pub(super) enum DaysOf {
    Tasks(Vec<(TaskId, Days)>),
    Agents(Vec<(AgentId, Days)>),
}

/// Counts the runs of days, skipped occurrences and retries left out: a run's id begins with the instant it is for, so a
/// day is a range of ids.
pub(super) async fn runs_of_days(
    connection: &mut PgConnection,
    days: DaysOf,
) -> Result<BTreeMap<Uuid, Runs>, StoreError> {
    const DOING: &str = "count the runs of days";
    let mut asked: Vec<(Uuid, Day)> = Vec::new();
    let (mut from, mut to, mut enough) = (Vec::new(), Vec::new(), Vec::new());
    let mut ask = |owner: Uuid, days: Days| {
        for day in Day::through(days.from, days.to, &days.zone) {
            let (begins, ends) = day.bounds(&days.zone);
            asked.push((owner, day));
            from.push(RunId::floor(begins).uuid());
            to.push(RunId::floor(ends).uuid());
            enough.push(i64::from(days.enough));
        }
    };
    let of_tasks = matches!(days, DaysOf::Tasks(_));
    match days {
        DaysOf::Tasks(of) => of.into_iter().for_each(|(task, days)| ask(task.uuid(), days)),
        DaysOf::Agents(of) => of.into_iter().for_each(|(agent, days)| ask(agent.uuid(), days)),
    }
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let numbers: Vec<i32> = (0..).take(asked.len()).collect();
    let owners: Vec<Uuid> = asked.iter().map(|(owner, _)| *owner).collect();
    let counted: Vec<(i32, i64)> = if of_tasks {
        sqlx::query_file!("queries/runs_of_task_days.sql", &numbers, &owners, &from, &to, &enough)
            .fetch_all(&mut *connection)
            .await
            .doing(DOING)?
            .into_iter()
            .map(|row| (row.n, row.runs))
            .collect()
    } else {
        sqlx::query_file!("queries/runs_of_agent_days.sql", &numbers, &owners, &from, &to, &enough)
            .fetch_all(&mut *connection)
            .await
            .doing(DOING)?
            .into_iter()
            .map(|row| (row.n, row.runs))
            .collect()
    };
    let mut runs: BTreeMap<Uuid, Runs> = BTreeMap::new();
    for (n, count) in counted {
        if let Some((owner, day)) = usize::try_from(n).ok().and_then(|n| asked.get(n)) {
            runs.entry(*owner).or_default().insert(*day, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
    Ok(runs)
}

/// A month of a task's, or of an agent's.
pub(super) struct MonthOf {
    agent: Uuid,
    owner: Uuid,
    month: Month,
}

impl MonthOf {
    pub(super) const fn task(agent: AgentId, task: TaskId, month: Month) -> Self {
        Self { agent: agent.uuid(), owner: task.uuid(), month }
    }

    pub(super) const fn agent(agent: AgentId, month: Month) -> Self {
        Self { agent: agent.uuid(), owner: agent.uuid(), month }
    }
}

/// What was spent in months, and what is set aside now, by owner.
pub(super) async fn money_of_months(
    connection: &mut PgConnection,
    months: &[MonthOf],
) -> Result<BTreeMap<Uuid, (Cost, Cost)>, StoreError> {
    if months.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query_file!(
        "queries/money_of_months.sql",
        &(0..).take(months.len()).collect::<Vec<i32>>(),
        &months.iter().map(|it| it.agent).collect::<Vec<_>>(),
        &months.iter().map(|it| it.owner).collect::<Vec<_>>(),
        &months.iter().map(|it| it.month.first_day()).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *connection)
    .await
    .doing("count the money of months")?;
    let of = |n: i32| usize::try_from(n).ok().and_then(|n| months.get(n));
    Ok(rows.into_iter().filter_map(|row| Some((of(row.n)?.owner, (cost(row.spent), cost(row.reserved))))).collect())
}

/// What the database says in billionths.
pub(super) fn cost(billionths: i64) -> Cost {
    Cost::from_billionths(u64::try_from(billionths).unwrap_or(0))
}

/// The same for the database.
pub(super) fn billionths(cost: Cost) -> i64 {
    i64::try_from(cost.billionths()).unwrap_or(i64::MAX)
}
