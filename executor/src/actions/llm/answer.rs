//! What a model said, judged, and the output it becomes.

use ordinaut_schema::{
    pipeline::misfits,
    run::{ErrorKind, StepFailure},
};
use serde_json::{Map, Value, json};

use crate::actions::http::body::is_within_depth;

/// One answer, whatever the endpoint speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    /// As the endpoint calls it.
    pub(super) model: Option<String>,
    /// It ran out of tokens.
    pub(super) truncated: bool,
    pub(super) refusal: Option<String>,
    pub(super) usage: Usage,
}

/// Tokens; unknown where an endpoint does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
}

impl Usage {
    pub(super) fn with(self, more: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.saturating_add(b));
        Self { input: sum(self.input, more.input), output: sum(self.output, more.output) }
    }
}

/// What stands in an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    pub(super) json: Option<Value>,
    /// Why it does not fit the schema.
    pub(super) wrong: Option<String>,
}

/// Looks for JSON. Without a schema an object or a list counts; with one, whatever fits it.
///
/// # Errors
/// Nothing can be mended: the schema is none, or the answer was cut off.
pub(super) fn read(said: &Said, schema: Option<&Value>, depth: usize) -> Result<Read, StepFailure> {
    let found = serde_json::from_str::<Value>(unwrapped(&said.text)).ok().filter(|json| is_within_depth(json, depth));
    let Some(schema) = schema else {
        return Ok(Read { json: found.filter(|json| json.is_object() || json.is_array()), wrong: None });
    };
    let wrong = match &found {
        None => Some("it is no JSON".to_owned()),
        Some(json) => misfits(schema, json).map_err(|why| {
            StepFailure::new(ErrorKind::ClientError, format!("`schema` is no JSON Schema: {why}")).sent(true)
        })?,
    };
    if wrong.is_some() && said.truncated {
        let message = "the answer was cut off before its JSON ended: raise `max_tokens` (the operator's limit holds)";
        return Err(StepFailure::new(ErrorKind::InvalidOutput, message).sent(true));
    }
    Ok(Read { json: found.filter(|_| wrong.is_none()), wrong })
}

/// JSON without the fence that models like to put around it.
fn unwrapped(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inner.map_or(text, |inner| inner.strip_prefix("json").unwrap_or(inner).trim())
}

/// `{text, json?, usage, model}`, and the fields of a JSON object at the top unless the name is one of these.
pub(super) fn output(said: &Said, json: Option<Value>, usage: Usage, model: &str) -> Value {
    let mut output = Map::new();
    output.insert("text".to_owned(), json!(said.text));
    if let Some(json) = &json {
        output.insert("json".to_owned(), json.clone());
    }
    output.insert("usage".to_owned(), json!({ "input_tokens": usage.input, "output_tokens": usage.output }));
    output.insert("model".to_owned(), json!(said.model.as_deref().unwrap_or(model)));
    if said.truncated {
        output.insert("truncated".to_owned(), Value::Bool(true));
    }
    if let Some(Value::Object(fields)) = json {
        for (name, value) in fields {
            // `json` is ours even where it is absent: it would mean two things.
            if name != "json" {
                output.entry(name).or_insert(value);
            }
        }
    }
    Value::Object(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        let usage = Usage { input: Some(1), output: Some(2) };
        Said { text: text.to_owned(), model: None, truncated: false, refusal: None, usage }
    }

    #[test]
    fn fields_of_a_json_answer_stand_at_the_top_and_override_nothing() {
        let said = said("```json\n{\"text\": 1, \"json\": 2, \"usage\": 3, \"model\": 4, \"mood\": \"fine\"}\n```");
        let read = read(&said, None, 64).unwrap();
        let output = output(&said, read.json, said.usage, "small");
        assert_eq!(output["mood"], "fine");
        assert_eq!((&output["text"], &output["model"]), (&json!(said.text), &json!("small")));
        assert_eq!(output["usage"], json!({"input_tokens": 1, "output_tokens": 2}));
        assert_eq!(output["json"]["usage"], 3);
    }

    #[test]
    fn without_a_schema_plain_words_are_no_json() {
        for text in ["42", "\"a\"", "It is warm.", "{broken"] {
            assert_eq!(read(&said(text), None, 64).unwrap().json, None, "{text}");
        }
        assert_eq!(read(&said("[1]"), None, 64).unwrap().json, Some(json!([1])));
    }

    #[test]
    fn an_answer_that_was_cut_off_is_not_asked_to_be_mended() {
        let cut = Said { truncated: true, ..said("{\"a\": ") };
        let failure = read(&cut, Some(&json!({"type": "object"})), 64).unwrap_err();
        assert!(failure.message.contains("max_tokens"), "{failure}");
    }
}
