//! JMESPath's own functions.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{
    super::{
        evaluator::Evaluator,
        order::{equal, order_numbers},
    },
    Argument, Function, Kind, deferred, list, text, value,
};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("abs", &[Kind::Number], |_, args| Ok(number(float(value(args, 0)).abs()))),
    Function::new("avg", &[Kind::Numbers], |_, args| {
        let items = list(args, 0);
        #[expect(clippy::cast_precision_loss, reason = "lists are far shorter than 2^52")]
        let count = items.len() as f64;
        Ok(if items.is_empty() { Value::Null } else { number(items.iter().map(float).sum::<f64>() / count) })
    }),
    Function::new("ceil", &[Kind::Number], |_, args| Ok(number(float(value(args, 0)).ceil()))),
    Function::new("contains", &[Kind::TextOrList, Kind::Any], |_, args| {
        Ok(Value::Bool(match (value(args, 0), value(args, 1)) {
            (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
            (Value::Array(items), wanted) => items.iter().any(|item| equal(item, wanted)),
            _ => false,
        }))
    }),
    Function::new("ends_with", &[Kind::Text, Kind::Text], |_, args| {
        Ok(Value::Bool(text(args, 0).ends_with(text(args, 1))))
    }),
    Function::new("floor", &[Kind::Number], |_, args| Ok(number(float(value(args, 0)).floor()))),
    Function::new("join", &[Kind::Text, Kind::Texts], join),
    Function::new("keys", &[Kind::Object], |_, args| {
        Ok(object(value(args, 0)).keys().cloned().map(Value::String).collect())
    }),
    Function::new("length", &[Kind::Countable], |_, args| {
        Ok(Value::from(match value(args, 0) {
            Value::String(text) => text.chars().count(),
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        }))
    }),
    Function::new("map", &[Kind::Deferred, Kind::List], |evaluator, args| {
        list(args, 1).iter().map(|item| evaluator.find_in(deferred(args, 0), item)).collect()
    }),
    Function::new("max", &[Kind::NumbersOrTexts], |_, args| Ok(extreme(list(args, 0), Ordering::Greater))),
    Function::new("max_by", &[Kind::List, Kind::Deferred], |evaluator, args| {
        extreme_by(evaluator, args, Ordering::Greater)
    }),
    Function::new("merge", &[Kind::Object], |_, args| {
        let mut merged = Map::new();
        for n in 0..args.len() {
            merged.extend(object(value(args, n)).clone());
        }
        Ok(Value::Object(merged))
    })
    .repeats(),
    Function::new("min", &[Kind::NumbersOrTexts], |_, args| Ok(extreme(list(args, 0), Ordering::Less))),
    Function::new("min_by", &[Kind::List, Kind::Deferred], |evaluator, args| {
        extreme_by(evaluator, args, Ordering::Less)
    }),
    Function::new("not_null", &[Kind::Any], |_, args| {
        Ok((0..args.len()).map(|n| value(args, n)).find(|it| !it.is_null()).cloned().unwrap_or_default())
    })
    .repeats(),
    Function::new("reverse", &[Kind::TextOrList], |_, args| {
        Ok(match value(args, 0) {
            Value::String(text) => Value::String(text.chars().rev().collect()),
            other => other.as_array().into_iter().flatten().rev().cloned().collect(),
        })
    }),
    Function::new("sort", &[Kind::NumbersOrTexts], |_, args| {
        let mut items = list(args, 0).to_vec();
        items.sort_by(order);
        Ok(Value::Array(items))
    }),
    Function::new("sort_by", &[Kind::List, Kind::Deferred], |evaluator, args| {
        let mut keyed = keyed(evaluator, args)?;
        keyed.sort_by(|(left, _), (right, _)| order(left, right));
        Ok(keyed.into_iter().map(|(_, item)| item.clone()).collect())
    }),
    Function::new("starts_with", &[Kind::Text, Kind::Text], |_, args| {
        Ok(Value::Bool(text(args, 0).starts_with(text(args, 1))))
    }),
    Function::new("sum", &[Kind::Numbers], |_, args| Ok(number(list(args, 0).iter().map(float).sum()))),
    Function::new("to_array", &[Kind::Any], |_, args| {
        Ok(match value(args, 0) {
            Value::Array(items) => Value::Array(items.clone()),
            other => Value::Array(vec![other.clone()]),
        })
    }),
    Function::new("to_number", &[Kind::Any], |_, args| {
        Ok(match value(args, 0) {
            Value::Number(number) => Value::Number(number.clone()),
            Value::String(text) => serde_json::from_str(text.trim()).map_or(Value::Null, Value::Number),
            _ => Value::Null,
        })
    }),
    Function::new("to_string", &[Kind::Any], |_, args| {
        Ok(Value::String(match value(args, 0) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }))
    }),
    Function::new("type", &[Kind::Any], |_, args| Ok(Value::from(type_name(value(args, 0))))),
    Function::new("values", &[Kind::Object], |_, args| Ok(object(value(args, 0)).values().cloned().collect())),
];

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("the signature has an object here")
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// A whole number as an integer, as long as a float counts them all.
pub(super) fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        let whole = value as i64;
        return Value::from(whole);
    }
    Value::from(value)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Numbers before texts, each by value.
fn order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Number(_), _) => Ordering::Less,
        _ => Ordering::Greater,
    }
}

fn extreme(items: &[Value], wanted: Ordering) -> Value {
    items.iter().reduce(|best, item| if order(item, best) == wanted { item } else { best }).cloned().unwrap_or_default()
}

fn extreme_by(evaluator: &Evaluator<'_>, args: &[Argument<'_>], wanted: Ordering) -> Result<Value, String> {
    let best = keyed(evaluator, args)?
        .into_iter()
        .reduce(|best, next| if order(&next.0, &best.0) == wanted { next } else { best });
    Ok(best.map(|(_, item)| item.clone()).unwrap_or_default())
}

/// Each item of a list with the key that an expression finds in it: all numbers, or all texts.
fn keyed<'a>(evaluator: &Evaluator<'_>, args: &'a [Argument<'_>]) -> Result<Vec<(Value, &'a Value)>, String> {
    let keyed = list(args, 0)
        .iter()
        .map(|item| Ok((evaluator.find_in(deferred(args, 1), item)?, item)))
        .collect::<Result<Vec<_>, String>>()?;
    let all = |wanted: fn(&Value) -> bool| keyed.iter().all(|(key, _)| wanted(key));
    if all(Value::is_number) || all(Value::is_string) {
        return Ok(keyed);
    }
    Err("the keys to order by must be all numbers or all texts".to_owned())
}

fn join(evaluator: &Evaluator<'_>, args: &[Argument<'_>]) -> Result<Value, String> {
    let (glue, items) = (text(args, 0), list(args, 1));
    evaluator.fuel().hold(items.len().saturating_mul(glue.len()))?;
    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    Ok(Value::String(texts.join(glue)))
}
