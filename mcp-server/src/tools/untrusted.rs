//! Text that came from steps, events and other tools: cleaned and cut before a model sees it.
//!
//! It is answered only in fields named `untrusted_…`. Control characters and those that turn the direction of text
//! could hide what is really there; a long text could crowd out everything else.

pub(super) use ordinaut_schema::visible::clean;
pub(crate) use ordinaut_schema::visible::visible;
use serde_json::{Map, Value};

/// The most of one value that is shown.
pub(super) const MOST_BYTES: usize = 2048;

/// A text, cleaned and cut.
pub(super) fn text(text: &str) -> String {
    cut(&clean(text))
}

/// A JSON value: cleaned; as itself where it is short, else as the beginning of its text.
pub(super) fn value(value: &Value) -> Value {
    let cleaned = clean_value(value);
    match &cleaned {
        Value::String(text) if text.len() <= MOST_BYTES => cleaned,
        Value::String(text) => Value::from(cut(text)),
        other => {
            let text = other.to_string();
            if text.len() <= MOST_BYTES { cleaned } else { Value::from(cut(&text)) }
        }
    }
}

/// The agent's own definition, whole unless it is very long.
pub(super) fn short(value: &Value) -> Value {
    const MOST: usize = 8 * MOST_BYTES;
    let text = value.to_string();
    if text.len() <= MOST { value.clone() } else { Value::from(cut(&text)) }
}

fn clean_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(clean(text)),
        Value::Array(items) => items.iter().map(clean_value).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (clean(key), clean_value(value))).collect::<Map<_, _>>())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn cut(text: &str) -> String {
    if text.len() <= MOST_BYTES {
        return text.to_owned();
    }
    let note = format!("… (cut: {} bytes in all)", text.len());
    let mut end = MOST_BYTES - note.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{note}", &text[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn control_and_bidi_characters_are_removed_from_texts_and_keys() {
        let hostile = json!({ "a\u{202e}b": "x\u{0}y\u{200b}z\u{2066}\u{e0041}\nkept\tkept" });
        assert_eq!(value(&hostile), json!({ "ab": "xyz\nkept\tkept" }));
    }

    #[test]
    fn a_value_is_cut_at_2_kb_and_says_so() {
        for long in [json!("é".repeat(5000)), json!({ "k": vec!["v"; 2000] })] {
            let shown = value(&long);
            let shown = shown.as_str().unwrap();
            assert!(shown.len() <= MOST_BYTES, "{}", shown.len());
            assert!(shown.contains("bytes in all"), "{shown}");
        }
    }

    #[test]
    fn a_short_value_stays_json() {
        assert_eq!(value(&json!({ "n": [1, null, true] })), json!({ "n": [1, null, true] }));
    }
}
