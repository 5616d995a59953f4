//! Whether a call after a refusal is made of the call before and of the refusal's own words, and of nothing else.

use serde_json::{Map, Value};

use crate::case::{Call, Refused};

/// # Errors
/// What of `next` came from somewhere else.
pub(crate) fn judge(before: &Call, refused: &Refused, said: &str, next: &Call) -> Result<(), String> {
    if let Some(words) = refused.mend_from.iter().find(|words| words.is_empty() || !said.contains(words.as_str())) {
        return Err(format!("the refusal does not say `{words}`, which the next call is mended from:\n{said}"));
    }
    if next.tool != before.tool && !said.contains(&next.tool) {
        return Err(format!("the refusal does not say to call `{}`:\n{said}", next.tool));
    }
    let is_said = |part: &str| refused.mend_from.iter().any(|words| words.contains(part));
    let (old, new) = (leaves(&before.with), leaves(&next.with));
    for (path, value) in &new {
        let is_known = |name: &str| old.iter().any(|(at, _)| at.split('/').any(|part| part == name));
        let mut names = path.split('/').filter(|part| part.parse::<usize>().is_err());
        if let Some(name) = names.find(|name| !is_known(name) && !is_said(name)) {
            return Err(format!("{path}: `{name}` is not among the words that the call is mended from"));
        }
        let former = old.iter().find(|(at, _)| at == path).map(|(_, value)| value.as_str());
        if former == Some(value) || old.iter().any(|(_, known)| known == value) {
            continue;
        }
        let changed = changed(former.unwrap_or_default(), value);
        if !changed.is_empty() && !is_said(changed) {
            return Err(format!("{path}: `{changed}` is not among the words that the call is mended from"));
        }
    }
    Ok(())
}

/// The part of `new` that `old` has not, out to the ends of its words; empty where something was only taken away.
fn changed<'n>(old: &str, new: &'n str) -> &'n str {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let start: usize = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).map(|(_, b)| b.len_utf8()).sum();
    let most = (old.len().min(new.len())).saturating_sub(start);
    let back = old.chars().rev().zip(new.chars().rev()).take_while(|(a, b)| a == b).map(|(_, b)| b.len_utf8());
    let mut end = 0;
    for length in back {
        if end + length > most {
            break;
        }
        end += length;
    }
    let end = new.len() - end;
    if start >= end {
        return "";
    }
    let start = new[..start].trim_end_matches(word).len();
    let end = new.len() - new[end..].trim_start_matches(word).len();
    &new[start..end]
}

/// Every value of the arguments that holds no others, as text, by its JSON pointer.
pub(crate) fn leaves(arguments: &Map<String, Value>) -> Vec<(String, String)> {
    fn walk(value: &Value, path: &str, into: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                fields.iter().for_each(|(name, value)| walk(value, &format!("{path}/{name}"), into));
            }
            Value::Array(items) if !items.is_empty() => {
                items.iter().enumerate().for_each(|(n, value)| walk(value, &format!("{path}/{n}"), into));
            }
            Value::String(text) => into.push((path.to_owned(), text.clone())),
            other => into.push((path.to_owned(), other.to_string())),
        }
    }
    let mut found = Vec::new();
    arguments.iter().for_each(|(name, value)| walk(value, &format!("/{name}"), &mut found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_reaches_to_the_ends_of_its_words() {
        for (old, new, part) in [
            ("steps.wether.body", "steps.weather.body", "weather"),
            ("steps.a.status == \"ok\"", "steps.a.status == 'ok'", "'ok'"),
            ("0 0 8 * * *", "0 8 * * *", ""),
            ("", "Europe/Chisinau", "Europe/Chisinau"),
            ("aa", "aaa", "aaa"),
            ("Chișinău", "Europe/Chisinau", "Europe/Chisinau"),
        ] {
            assert_eq!(changed(old, new), part, "{old} -> {new}");
        }
    }
}
