//! Takes the values of secrets out of what came back from a call, in whatever form they came back. Pure.
//!
//! A value is looked for as it is and in base64 (both alphabets, at each of the three places it may have among other
//! bytes, so also inside basic credentials). Each of these is found however its characters are written: percent
//! encoding (any choice of what is encoded, any case, `+` for a space, encoded twice) and the escapes of JSON. That is
//! a walk along the text with all readings open, not a list of encoded forms: encoders differ in what they leave alone.

mod form;

use serde_json::{Map, Value};

use self::form::{Form, Found, forms, is_base64};

/// Removes some secrets' values. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<Secret>,
}

#[derive(Clone)]
struct Secret {
    /// Empty for a credential that has none: one written into the operator's own configuration.
    name: String,
    length: usize,
    forms: Vec<Form>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.secrets.iter().map(|secret| &secret.name)).finish()
    }
}

impl Redactor {
    /// Of secrets by name and value.
    pub fn new<'s>(secrets: impl IntoIterator<Item = (&'s str, &'s str)>) -> Self {
        let mut redactor = Self::default();
        secrets.into_iter().for_each(|(name, value)| redactor.add(name, value));
        redactor
    }

    /// Removes one more value. Without a name it becomes `[hidden]`.
    pub fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.secrets.push(Secret { name: name.to_owned(), length: value.len(), forms: forms(value) });
        // Of two that begin at one place the longer one is meant; of two that are alike, the one that has a name.
        self.secrets.sort_by_key(|secret| (secret.length, !secret.name.is_empty()));
    }

    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The name of a secret whose value is in the text.
    pub fn find(&self, text: &str) -> Option<&str> {
        (0..text.len()).find_map(|at| self.at(text, at, false)).map(|(secret, _)| secret.name.as_str())
    }

    /// The text without any of the values.
    pub fn text(&self, text: &str) -> String {
        self.redacted(text, false)
    }

    /// As [`Redactor::text`], for a text whose end was cut off: also without a value that only begins there.
    pub fn beginning(&self, text: &str) -> String {
        self.redacted(text, true)
    }

    /// Takes the values out of every text, key and number.
    pub fn clean(&self, value: &mut Value) {
        if self.is_empty() {
            return;
        }
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Number(number) => {
                let text = number.to_string();
                if self.find(&text).is_some() {
                    *value = Value::String(self.text(&text));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean(item)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.clean(field));
                if fields.keys().any(|key| self.find(key).is_some()) {
                    let old = std::mem::take(fields);
                    *fields = old.into_iter().map(|(key, field)| (self.text(&key), field)).collect::<Map<_, _>>();
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn redacted(&self, text: &str, is_cut: bool) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut clean = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(next) = text[at..].chars().next() {
            if let Some((secret, found)) = self.at(text, at, is_cut) {
                clean.truncate(clean.len() - trailing(&clean, found.before));
                secret.write_mark(&mut clean);
                at = found.end;
            } else {
                clean.push(next);
                at += next.len_utf8();
            }
        }
        clean
    }

    /// The secret that stands at a place, with the longest of its readings.
    fn at(&self, text: &str, at: usize, is_cut: bool) -> Option<(&Secret, Found)> {
        if !text.is_char_boundary(at) {
            return None;
        }
        let found = |secret: &Secret| {
            secret.forms.iter().filter_map(|form| form.at(text, at, is_cut)).max_by_key(|found| found.end)
        };
        self.secrets.iter().filter_map(|secret| Some((secret, found(secret)?))).max_by_key(|(_, found)| found.end)
    }
}

impl Secret {
    fn write_mark(&self, text: &mut String) {
        if self.name.is_empty() {
            text.push_str("[hidden]");
        } else {
            text.push_str("[secret ");
            text.push_str(&self.name);
            text.push(']');
        }
    }
}

/// How many bytes of base64 end `text`, at most `most`.
fn trailing(text: &str, most: usize) -> usize {
    text.bytes().rev().take(most).take_while(|byte| is_base64(*byte)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::template::base64;

    const VALUE: &str = "p@ss w+rd/\"é\\1";

    fn redactor() -> Redactor {
        Redactor::new([("KEY", VALUE)])
    }

    #[test]
    fn a_value_is_found_in_every_form_of_the_promise() {
        let encoded = base64(VALUE.as_bytes());
        let url_safe = encoded.replace('+', "-").replace('/', "_");
        let json = serde_json::to_string(VALUE).unwrap();
        let form: String = url::form_urlencoded::byte_serialize(VALUE.as_bytes()).collect();
        for form in [
            VALUE.to_owned(),
            encoded.clone(),
            encoded.trim_end_matches('=').to_owned(),
            url_safe.clone(),
            url_safe.trim_end_matches('=').to_owned(),
            base64(format!("me:{VALUE}").as_bytes()),
            form.clone(),
            form.replace('+', "%20").to_lowercase(),
            form.replace('%', "%25"),
            json[1..json.len() - 1].to_owned(),
            VALUE.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect(),
            serde_json::to_string(&json).unwrap(),
            encoded.replace('/', "\\/"),
        ] {
            let clean = redactor().text(&format!("before={form}&after"));
            assert!(clean.contains("[secret KEY]") && clean.ends_with("&after"), "{form} became {clean}");
            assert!(redactor().find(&clean).is_none());
        }
    }

    #[test]
    fn keys_numbers_and_nested_texts_are_cleaned() {
        let digits = Redactor::new([("PIN", "1234567890")]);
        let mut value = json!({ "a 1234567890": [1_234_567_890_u64, { "b": "x1234567890" }], "n": 12, "t": true });
        digits.clean(&mut value);
        assert_eq!(value, json!({ "a [secret PIN]": ["[secret PIN]", { "b": "x[secret PIN]" }], "n": 12, "t": true }));
    }

    #[test]
    fn of_two_secrets_at_one_place_the_longer_is_meant() {
        let both = Redactor::new([("A", "12345678"), ("B", "1234567890")]);
        assert_eq!(both.text("1234567890 12345678"), "[secret B] [secret A]");
    }

    #[test]
    fn a_value_without_a_name_is_hidden_and_one_with_a_name_is_named() {
        let mut redactor = Redactor::new([("KEY", "s3cr3t-value")]);
        redactor.add("", "s3cr3t-value");
        redactor.add("", "Bearer s3cr3t-value");
        assert_eq!(redactor.text("s3cr3t-value, Bearer s3cr3t-value"), "[secret KEY], [hidden]");
        assert_eq!(redactor.text(&base64(b"Bearer s3cr3t-value")), "[hidden]");
    }

    #[test]
    fn at_a_cut_end_a_beginning_is_removed_too() {
        let redactor = Redactor::new([("KEY", "s3cr3t-value")]);
        assert_eq!(redactor.beginning("said s3cr3t-v"), "said [secret KEY]");
        assert_eq!(redactor.text("said s3cr3t-v"), "said s3cr3t-v");
        assert_eq!(redactor.beginning("yes"), "yes");
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", redactor()), "[\"KEY\"]");
    }

    proptest! {
        /// Nothing of a value is left, whatever stands around it.
        #[test]
        fn no_value_is_left_in_any_text(value in ".{8,20}", before in ".{0,9}", after in ".{0,9}") {
            let redactor = Redactor::new([("KEY", value.as_str())]);
            let whole = format!("{before}{value}{after}");
            prop_assert!(redactor.text(&whole).contains("[secret KEY]"));
            // What remains of base64 holds no byte of the value: neither does any place at which it may stand.
            let clean = redactor.text(&base64(whole.as_bytes()));
            prop_assert!(clean.contains("[secret KEY]"), "{}", clean);
            let url: String = url::form_urlencoded::byte_serialize(whole.as_bytes()).collect();
            prop_assert!(redactor.text(&url).contains("[secret KEY]"));
            let json = serde_json::to_string(&whole).unwrap();
            prop_assert!(redactor.text(&json).contains("[secret KEY]"));
        }

        #[test]
        fn a_text_without_a_value_is_left_as_it_is(text in r"[a-z%\\+0-9=/]{0,40}") {
            prop_assume!(!text.contains("QQQQQQQQ"));
            let redactor = Redactor::new([("KEY", "QQQQ-QQQQ-QQQQ")]);
            prop_assert_eq!(redactor.text(&text), text);
        }
    }
}
