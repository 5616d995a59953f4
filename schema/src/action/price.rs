//! What the answers of a step's model may cost, and whether anybody can know.

use serde_json::Value;

use crate::{
    budget::{Cost, Owner, Tariff, no_price},
    fault::{Fault, FaultCode, child},
};

use super::{Catalogue, Need, Offered, need};

const LLM: &str = "llm.generate";

/// The most that one answer to a step may cost. A model that a template has yet to name is the dearest there is; one
/// without a price costs nothing, because under a budget of cost it is not asked.
pub(crate) fn most_of(uses: &str, with: &Value, offered: &Offered) -> Cost {
    if uses != LLM {
        return Cost::ZERO;
    }
    let asked = with.get("max_tokens").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let most = |tariff: &Tariff| tariff.cost(0, asked.min(u64::from(tariff.max_tokens)));
    match need(uses, with) {
        Some(Need::Model(named)) => {
            let name = named.as_ref().or(offered.default_model.as_ref());
            name.and_then(|name| offered.tariffs.get(name)).map(most).unwrap_or_default()
        }
        _ => offered.tariffs.values().map(most).max().unwrap_or_default(),
    }
}

/// Judges whether the model that a step asks has a price, where `owner`'s budget of cost is to be kept.
///
/// # Errors
/// `not_configured`, with the command for the person.
pub(crate) fn judge(uses: &str, with: &Value, path: &str, catalogue: &Catalogue, owner: Owner) -> Result<(), Fault> {
    let offered = &catalogue.offered;
    let Some(Need::Model(named)) = need(uses, with) else { return Ok(()) };
    match named.or_else(|| offered.default_model.clone()) {
        Some(name) if !offered.tariffs.contains_key(&name) => {
            Err(Fault::new(child(path, "model"), FaultCode::NotConfigured, no_price(&name, owner)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_sets_aside_what_the_answers_may_cost_at_most() {
        let tariff = |output: f64, max_tokens| Tariff {
            input: Cost::of(1.0).unwrap(),
            output: Cost::of(output).unwrap(),
            max_tokens,
        };
        let offered = Offered {
            tariffs: [("big".to_owned(), tariff(10.0, 1000)), ("small".to_owned(), tariff(1.0, 1000))].into(),
            default_model: Some("small".to_owned()),
            ..Offered::default()
        };
        for (uses, with, cost) in [
            (LLM, json!({"instruction": "x", "model": "big"}), 0.01),
            (LLM, json!({"instruction": "x", "model": "big", "max_tokens": 100}), 0.001),
            (LLM, json!({"instruction": "x", "model": "big", "max_tokens": 9999}), 0.01),
            (LLM, json!({"instruction": "x"}), 0.001),
            (LLM, json!({"instruction": "x", "model": "${params.m}"}), 0.01),
            (LLM, json!({"instruction": "x", "model": "free"}), 0.0),
            ("http.get", json!({"url": "https://example.com"}), 0.0),
        ] {
            assert_eq!(most_of(uses, &with, &offered), Cost::of(cost).unwrap(), "{with}");
        }
    }
}
