//! How values compare, and how errors name them.

use serde_json::{Number, Value};

use super::lexer::Comparator;

/// Judges a comparison.
pub(super) fn compare(comparator: Comparator, left: &Value, right: &Value) -> Result<bool, String> {
    let ordering = match comparator {
        Comparator::Equal => return Ok(equal(left, right)),
        Comparator::NotEqual => return Ok(!equal(left, right)),
        _ => order(left, right).ok_or_else(|| {
            format!(
                "`{}` orders two numbers or two instants, not {} and {}",
                comparator.as_str(),
                brief(left),
                brief(right)
            )
        })?,
    };
    Ok(match comparator {
        Comparator::Less => ordering.is_lt(),
        Comparator::LessOrEqual => ordering.is_le(),
        Comparator::Greater => ordering.is_gt(),
        Comparator::GreaterOrEqual => ordering.is_ge(),
        Comparator::Equal | Comparator::NotEqual => unreachable!("answered above"),
    })
}

/// Numbers by value, RFC 3339 texts by instant; nothing else has an order.
fn order(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Some(order_numbers(left, right)),
        (Value::String(left), Value::String(right)) => {
            let (left, right): (jiff::Timestamp, jiff::Timestamp) = (left.parse().ok()?, right.parse().ok()?);
            Some(left.cmp(&right))
        }
        _ => None,
    }
}

pub(super) fn order_numbers(left: &Number, right: &Number) -> std::cmp::Ordering {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.as_f64().unwrap_or(0.0).total_cmp(&right.as_f64().unwrap_or(0.0)),
    }
}

/// Equality of JSON: `1` and `1.0` are one number.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right).is_eq(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| equal(left, right)))
        }
        _ => left == right,
    }
}

/// A value as an error names it.
pub(super) fn brief(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() > 40 => {
            format!("the text '{}…'", text.chars().take(40).collect::<String>())
        }
        Value::String(text) => format!("the text '{text}'"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
