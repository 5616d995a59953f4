//! A task's budget, and what one of its runs sets aside.

use crate::{
    action::{Offered, most_of},
    budget::{Budget, Cost},
};

use super::TaskSpec;

impl TaskSpec {
    /// The task's own budget.
    pub fn budget(&self) -> Budget {
        Budget {
            max_runs_per_day: self.max_runs_per_day,
            max_cost_per_month: self.max_cost_per_month,
            max_tokens_per_run: self.max_tokens_per_run,
        }
    }

    /// What one run sets aside of a budget of cost: the most that one answer to each `llm.generate` step may cost, a
    /// `foreach` counted once. Prompts and further calls are judged when they are made.
    pub fn reservation(&self, offered: &Offered) -> Cost {
        self.steps().map(|step| most_of(&step.uses, &step.with, offered)).sum()
    }
}
