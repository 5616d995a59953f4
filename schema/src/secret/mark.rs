//! How a rendered input names a secret: by noncharacters of Unicode, which no other rendered text contains.
//!
//! Rendering removes them from every text and key that it puts in, wherever it came from: so a value from a step, an
//! event or `params` that looks like a mark is none, and what is a mark was written by the definition.
//!
//! ```text
//! U+FDD0 NAME U+FDD1                      a secret
//! U+FDD2 user U+FDD3 password U+FDD4      basic credentials, each half a text or a secret
//! ```

use std::collections::BTreeSet;

use serde_json::Value;

const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';
const BASIC: char = '\u{fdd2}';
const COLON: char = '\u{fdd3}';
const END: char = '\u{fdd4}';

/// All noncharacters of the block, so that marks can be added.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}')
}

/// The mark of a secret.
pub fn secret(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// The mark of `Basic …`; each half is a clean text or the mark of a secret.
pub fn basic(user: &str, password: &str) -> String {
    format!("{BASIC}{user}{COLON}{password}{END}")
}

/// A text that contains no mark.
pub fn clean_text(text: String) -> String {
    if text.contains(is_mark) { text.replace(is_mark, "") } else { text }
}

/// Removes what could be taken for a mark from every text and key.
pub fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = clean_text(std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => {
            fields.values_mut().for_each(clean);
            if fields.keys().any(|key| key.contains(is_mark)) {
                *fields = std::mem::take(fields).into_iter().map(|(key, value)| (clean_text(key), value)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A stretch of a rendered text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Secret(&'a str),
    Basic { user: &'a str, password: &'a str },
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find([OPEN, BASIC]) {
        let (before, marked) = rest.split_at(start);
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let inner = &marked[OPEN.len_utf8()..];
        let closing = if marked.starts_with(OPEN) { CLOSE } else { END };
        let Some((inner, after)) = inner.split_once(closing) else {
            // Rendering writes marks whole: what is left is no mark.
            rest = inner;
            continue;
        };
        pieces.push(match inner.split_once(COLON).filter(|_| closing == END) {
            Some((user, password)) => Piece::Basic { user, password },
            None => Piece::Secret(inner),
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// A half of basic credentials: the name of a secret, or a text.
fn half(text: &str) -> Result<&str, &str> {
    text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)).ok_or(text)
}

/// The names of the secrets that a rendered input needs.
pub fn names(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.contains(is_mark) => {
            for piece in pieces(text) {
                match piece {
                    Piece::Text(_) => {}
                    Piece::Secret(name) => drop(found.insert(name.to_owned())),
                    Piece::Basic { user, password } => {
                        found.extend([half(user), half(password)].into_iter().flatten().map(str::to_owned));
                    }
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, found)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The input as people see it: `[secret NAME]` in the place of a mark.
#[must_use]
pub fn shown(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains(is_mark) => Value::String(
            pieces(&text)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.to_owned(),
                    Piece::Secret(name) => format!("[secret {name}]"),
                    Piece::Basic { user, password } => {
                        let shown = |text| half(text).map_or_else(str::to_owned, |name| format!("[secret {name}]"));
                        format!("basic_auth({}, {})", shown(user), shown(password))
                    }
                })
                .collect(),
        ),
        Value::Array(items) => items.into_iter().map(shown).collect(),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(key, field)| (key, shown(field))).collect()),
        other @ (Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

/// Why a mark could not be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfilled {
    #[error("the secret `{0}` is not at hand")]
    Missing(String),
    #[error("the user name of `basic_auth` contains a `:`, at which the other side would cut it")]
    ColonInUser,
}

/// Puts values in the place of marks; keys are left as they are.
///
/// # Errors
/// A secret is not at hand, or credentials could not be told apart by the other side.
pub fn fill<'s>(value: &mut Value, find: &impl Fn(&str) -> Option<&'s str>) -> Result<(), Unfilled> {
    match value {
        Value::String(text) if text.contains(is_mark) => {
            let filled = pieces(text).into_iter().map(|piece| filled(&piece, find)).collect::<Result<String, _>>()?;
            *text = filled;
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, find)),
        Value::Object(fields) => fields.values_mut().try_for_each(|field| fill(field, find)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn filled<'s>(piece: &Piece<'_>, find: &impl Fn(&str) -> Option<&'s str>) -> Result<String, Unfilled> {
    let found = |name: &str| find(name).ok_or_else(|| Unfilled::Missing(name.to_owned()));
    match piece {
        Piece::Text(text) => Ok((*text).to_owned()),
        Piece::Secret(name) => found(name).map(str::to_owned),
        Piece::Basic { user, password } => {
            let value =
                |text: &str| half(text).map_or_else(|text| Ok(text.to_owned()), |name| found(name).map(str::to_owned));
            let (user, password) = (value(user)?, value(password)?);
            if user.contains(':') {
                return Err(Unfilled::ColonInUser);
            }
            Ok(format!("Basic {}", crate::template::base64(format!("{user}:{password}").as_bytes())))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn find(name: &str) -> Option<&'static str> {
        (name == "KEY").then_some("s3cr3t-value")
    }

    #[test]
    fn a_mark_is_filled_named_and_shown_wherever_it_stands() {
        let mut input =
            json!({ "a": [format!("Bearer {}!", secret("KEY"))], "b": basic("me", &secret("KEY")), "c": 1 });
        assert_eq!(names(&input), ["KEY".to_owned()].into());
        assert_eq!(
            shown(input.clone()),
            json!({ "a": ["Bearer [secret KEY]!"], "b": "basic_auth(me, [secret KEY])", "c": 1 })
        );
        fill(&mut input, &find).unwrap();
        assert_eq!(input, json!({ "a": ["Bearer s3cr3t-value!"], "b": "Basic bWU6czNjcjN0LXZhbHVl", "c": 1 }));
    }

    #[test]
    fn what_cannot_be_filled_says_so() {
        assert_eq!(fill(&mut json!(secret("GONE")), &find), Err(Unfilled::Missing("GONE".to_owned())));
        assert_eq!(fill(&mut json!(basic("a:b", "c")), &find), Err(Unfilled::ColonInUser));
    }

    proptest! {
        /// The guard of the whole design: after cleaning nothing is a mark, whatever came.
        #[test]
        fn a_clean_value_has_no_mark(key in "[a\u{fdd0}-\u{fdd4}]{0,9}", text in "[KEY:\u{fdd0}-\u{fdd4}]{0,20}") {
            let mut value = json!([{ key: [text] }]);
            clean(&mut value);
            prop_assert!(names(&value).is_empty());
            let before = value.clone();
            fill(&mut value, &find).unwrap();
            prop_assert_eq!(value, before);
        }

        #[test]
        fn reading_marks_never_panics(text in "[KEY:\u{fdd0}-\u{fdd4}]{0,20}") {
            drop(shown(json!(text.clone())));
            drop(fill(&mut json!(text), &find));
        }
    }
}
