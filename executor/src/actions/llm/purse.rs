//! What budgets leave of one request to a model: its tokens, and its money.
//!
//! Asked before each request, for the dearest it can be; settled after each answer, before that is judged: a repeat costs
//! again. Where an endpoint does not say what it used, the dearest is what it counts as.

use ordinaut_schema::{
    budget::{Money, Tariff, no_price},
    run::{ErrorKind, StepFailure},
    time::with_offset,
};
use ordinaut_store::{
    Store,
    budgets::{Asking, Budgeted, Spending},
};

use super::answer::Usage;
use crate::actions::{StepCall, store_failure};

/// A prompt has a token for so many bytes, at the most: fewer bytes a token are rare, in any language.
const BYTES_A_TOKEN: u64 = 3;

/// The leave to make one request.
pub(super) struct Purse {
    asking: Asking,
    allowed: Budgeted,
    tariff: Option<Tariff>,
}

impl Purse {
    /// Looks at what is left.
    ///
    /// # Errors
    /// `denied`: the run has had its tokens, or the model has no price.
    pub(super) async fn open(
        store: &Store,
        call: &StepCall,
        (name, tariff): (&str, Option<Tariff>),
    ) -> Result<Self, StepFailure> {
        let asking =
            Asking { agent: call.agent, task: call.task, run: call.run, budget: call.budget, zone: call.zone.clone() };
        let allowed = store.budget_for_call(&asking).await.map_err(|error| store_failure(&error))?;
        if let Some((most, owner)) = allowed.most_tokens.filter(|(most, _)| allowed.tokens_used >= u64::from(*most)) {
            let message = format!(
                "the run has used {} tokens, and {} `max_tokens_per_run` is {most}; a shorter prompt or fewer calls need \
                 less, and a person may allow more",
                allowed.tokens_used,
                owner.whose()
            );
            return Err(StepFailure::new(ErrorKind::Denied, message));
        }
        if let (None, Some((owner, ..))) = (tariff, allowed.money.first()) {
            return Err(StepFailure::new(ErrorKind::Denied, no_price(name, *owner)));
        }
        Ok(Self { asking, allowed, tariff })
    }

    /// The most tokens that the answer may have.
    pub(super) fn most(&self, wanted: u32) -> u32 {
        self.allowed.most_tokens.map_or(wanted, |(most, _)| {
            let left = u64::from(most).saturating_sub(self.allowed.tokens_used);
            wanted.min(u32::try_from(left).unwrap_or(u32::MAX))
        })
    }

    /// Judges a request of so many bytes, with an answer of so many tokens.
    ///
    /// # Errors
    /// `denied`: it could pass what a month may cost.
    pub(super) fn judge(&self, bytes: usize, answer: u32) -> Result<(), StepFailure> {
        let Some(tariff) = self.tariff else { return Ok(()) };
        let needed = tariff.cost(prompt_tokens(bytes), u64::from(answer));
        for (owner, zone, Money { most, spent, resets_at, .. }) in &self.allowed.money {
            if spent.plus(needed) > *most {
                let message = format!(
                    "{} `max_cost_per_month` is {most}, of which {spent} is spent, and this call could cost {needed}; it \
                     begins anew at {}",
                    owner.whose(),
                    with_offset(*resets_at, zone)
                );
                return Err(StepFailure::new(ErrorKind::Denied, message));
            }
        }
        Ok(())
    }

    /// Writes what an answer came to. It is paid for, and so it is used even where that cannot be written.
    pub(super) async fn settle(&self, store: &Store, usage: Usage, bytes: usize, answer: u32) {
        let (input, output) =
            (usage.input.unwrap_or_else(|| prompt_tokens(bytes)), usage.output.unwrap_or_else(|| u64::from(answer)));
        let cost = |input, output| self.tariff.map(|tariff| tariff.cost(input, output)).unwrap_or_default();
        let spending =
            Spending { tokens: input.saturating_add(output), cost: cost(input, output), of_answer: cost(0, output) };
        if let Err(error) = store.spend(&self.asking, &self.allowed, spending).await {
            let (run, cost, tokens) = (self.asking.run, spending.cost, spending.tokens);
            tracing::error!(
                run.id = %run,
                error = &error as &dyn std::error::Error,
                "an answer of {tokens} tokens at {cost} is missing in the budgets of run {run}"
            );
        }
    }
}

fn prompt_tokens(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(BYTES_A_TOKEN)
}
