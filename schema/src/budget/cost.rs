//! Money, in billionths of the operator's currency: sums are exact, and a token has a price.

use std::{fmt, iter::Sum};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Billionths in one.
const UNIT: u64 = 1_000_000_000;
const UNIT_AMOUNT: f64 = 1e9;
/// The largest amount that is read: a thousand million.
const MOST: f64 = 1e9;

/// An amount of money that is not negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(u64);

impl Cost {
    pub const ZERO: Self = Self(0);

    /// From billionths.
    pub const fn from_billionths(billionths: u64) -> Self {
        Self(billionths)
    }

    pub const fn billionths(self) -> u64 {
        self.0
    }

    /// Rounded to a billionth; `None` for what is no amount, or a thousand million and more.
    pub fn of(amount: f64) -> Option<Self> {
        if !(0.0..=MOST).contains(&amount) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and 1e18 at most, which fits"
        )]
        let billionths = (amount * UNIT_AMOUNT).round() as u64;
        Some(Self(billionths))
    }

    /// As a plain number.
    pub fn amount(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "shown to people; sums are of billionths")]
        let billionths = self.0 as f64;
        billionths / UNIT_AMOUNT
    }

    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::ZERO, Self::plus)
    }
}

/// Two decimals, and more only where they are not nothing.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:09}", self.0 % UNIT);
        let shown = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{}.{}", self.0 / UNIT, &fraction[..shown])
    }
}

impl Serialize for Cost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(UNIT) {
            serializer.serialize_u64(self.0 / UNIT)
        } else {
            serializer.serialize_f64(self.amount())
        }
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = f64::deserialize(deserializer)?;
        Self::of(amount).ok_or_else(|| D::Error::custom(format!("{amount} is no amount of money")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_read_back() {
        let tenths: Cost = std::iter::repeat_n(Cost::of(0.1).unwrap(), 3).sum();
        assert_eq!(tenths, Cost::of(0.3).unwrap());
        for (amount, text, json) in [(20.0, "20.00", "20"), (0.5, "0.50", "0.5"), (0.000_123, "0.000123", "0.000123")] {
            let cost = Cost::of(amount).unwrap();
            assert_eq!((cost.to_string().as_str(), serde_json::to_string(&cost).unwrap().as_str()), (text, json));
            assert_eq!(serde_json::from_str::<Cost>(json).unwrap(), cost);
        }
        assert!(Cost::of(-0.1).is_none() && Cost::of(f64::NAN).is_none() && Cost::of(2e9).is_none());
    }
}
