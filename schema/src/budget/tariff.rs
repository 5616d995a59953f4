//! What a model costs.

use super::Cost;

const MILLION: u128 = 1_000_000;

/// The price of a model, and the most tokens of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tariff {
    /// A million tokens of a prompt.
    pub input: Cost,
    /// A million tokens of an answer.
    pub output: Cost,
    pub max_tokens: u32,
}

impl Tariff {
    /// What so many tokens cost, rounded up to a billionth.
    pub fn cost(&self, input: u64, output: u64) -> Cost {
        let of = |tokens: u64, price: Cost| u128::from(tokens).saturating_mul(u128::from(price.billionths()));
        let total = of(input, self.input).saturating_add(of(output, self.output)).div_ceil(MILLION);
        Cost::from_billionths(u64::try_from(total).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_that_of_a_million_tokens() {
        let tariff = Tariff { input: Cost::of(3.0).unwrap(), output: Cost::of(15.0).unwrap(), max_tokens: 4096 };
        assert_eq!(tariff.cost(1_000_000, 0), Cost::of(3.0).unwrap());
        assert_eq!(tariff.cost(1_000, 200), Cost::of(0.006).unwrap());
        let cheap = Tariff { input: Cost::of(0.000_1).unwrap(), ..tariff };
        assert_eq!(cheap.cost(1, 0), Cost::from_billionths(1), "what costs anything costs a billionth");
    }
}
