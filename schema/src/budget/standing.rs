//! A budget and what is used of it, as people and models are shown it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Budget, Cost};
use crate::time::{Zone, with_offset};

/// A budget as it stands now.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetStanding {
    pub budget: Budget,
    /// Whose days and months these are.
    pub zone: Zone,
    pub runs_today: u32,
    pub day_ends_at: Timestamp,
    /// This month's, as are the tokens and the calls.
    pub spent: Cost,
    pub tokens: u64,
    pub calls: u64,
    /// Set aside for runs that are not over.
    pub reserved: Cost,
    pub month_ends_at: Timestamp,
}

impl BudgetStanding {
    /// Limits and what is used of them, for programs.
    pub fn to_json(&self) -> Value {
        json!({
            "limits": self.budget,
            "timezone": self.zone.name(),
            "runs_today": self.runs_today,
            "day_ends_at": with_offset(self.day_ends_at, &self.zone),
            "cost_this_month": self.spent,
            "cost_set_aside": self.reserved,
            "tokens_this_month": self.tokens,
            "model_calls_this_month": self.calls,
            "month_ends_at": with_offset(self.month_ends_at, &self.zone),
        })
    }

    /// The same as lines for people: what is counted, and how it stands.
    pub fn lines(&self) -> [(&'static str, String); 3] {
        let until = |at| format!("until {}", with_offset(at, &self.zone));
        let of = |most: Option<String>| most.map_or_else(String::new, |most| format!(" of {most}"));
        let most_runs = of(self.budget.max_runs_per_day.map(|most| most.to_string()));
        let most_cost = of(self.budget.max_cost_per_month.map(|most| most.to_string()));
        let aside = if self.reserved > Cost::ZERO { format!(", {} set aside", self.reserved) } else { String::new() };
        let tokens =
            self.budget.max_tokens_per_run.map_or_else(|| "not limited".to_owned(), |most| format!("at most {most}"));
        [
            ("runs today", format!("{}{most_runs}, {}", self.runs_today, until(self.day_ends_at))),
            (
                "cost this month",
                format!(
                    "{}{most_cost}{aside}, {}; {} tokens in {} calls of models",
                    self.spent,
                    until(self.month_ends_at),
                    self.tokens,
                    self.calls
                ),
            ),
            ("tokens a run", tokens),
        ]
    }
}
