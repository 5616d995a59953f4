//! Budgets: how many runs a day, how much money a month and how many tokens a run a task, or an agent, may use.
//!
//! - here: the limits themselves
//! - `cost` is money; `tariff` what a model costs; `calendar` the days and months that are counted
//! - `allowance` is what is left of a budget, asked and taken by whoever plans runs; `standing` is how it is shown

mod allowance;
mod calendar;
mod cost;
mod standing;
mod tariff;

use serde::{Deserialize, Serialize};

pub use allowance::{Allowance, Exhausted, Money, RunsOfDays, Spent};
pub use calendar::{Day, Month};
pub use cost::Cost;
pub use standing::BudgetStanding;
pub use tariff::Tariff;

/// What may be used; what is not named is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// By the wall clock of a zone; retries are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_runs_per_day: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_per_month: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_per_run: Option<u32>,
}

impl Budget {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it says anything about which occurrences run.
    pub fn bears_on_planning(&self) -> bool {
        self.max_runs_per_day.is_some() || self.max_cost_per_month.is_some()
    }
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Task,
    Agent,
}

impl Owner {
    pub const fn whose(self) -> &'static str {
        match self {
            Self::Task => "the task's",
            Self::Agent => "the agent's",
        }
    }
}

/// Why a model without a price is not asked, and what a person does about it.
pub fn no_price(model: &str, owner: Owner) -> String {
    format!(
        "the model `{model}` has no price, so {} `max_cost_per_month` cannot be kept: a person gives it one with \
         `ordinaut llm add {model} … --price INPUT,OUTPUT --replace`",
        owner.whose()
    )
}
