//! What a step returned, before it is kept: cleaned, measured, judged by `expect`.

use std::io;

use ordinaut_schema::{
    limits::Limits,
    pipeline::judge_output,
    run::{ErrorKind, StepFailure},
};
use serde_json::Value;

/// Makes an output fit to be kept.
///
/// # Errors
/// `invalid_output`: too large, or not what `expect` says.
pub(crate) fn accept(mut output: Value, expect: Option<&Value>, limits: &Limits) -> Result<Value, StepFailure> {
    remove_nul(&mut output);
    let bytes = json_bytes(&output);
    if bytes > limits.step_output_bytes {
        return Err(StepFailure::new(
            ErrorKind::InvalidOutput,
            format!(
                "the output is {bytes} bytes, more than the {} that are kept of a step; ask for less (fewer fields, \
                 a page, a filter)",
                limits.step_output_bytes
            ),
        ));
    }
    if let Some(schema) = expect {
        judge_output(schema, &output)?;
    }
    Ok(output)
}

/// PostgreSQL's `jsonb` has no NUL character: one would fail the whole batch it is written in.
pub(crate) fn remove_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => text.retain(|c| c != '\0'),
        Value::Array(items) => items.iter_mut().for_each(remove_nul),
        Value::Object(fields) => {
            fields.values_mut().for_each(remove_nul);
            if fields.keys().any(|key| key.contains('\0')) {
                *fields =
                    std::mem::take(fields).into_iter().map(|(key, value)| (key.replace('\0', ""), value)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// How long the value is as JSON text.
pub(crate) fn json_bytes(value: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("counting never fails and a value has string keys");
    count.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_that_is_not_what_was_expected_is_refused_with_the_place() {
        let schema = json!({ "type": "object", "required": ["body"],
            "properties": { "body": { "type": "object", "required": ["temperature"] } } });
        let accepted = accept(json!({ "body": { "temperature": 20 } }), Some(&schema), &Limits::DEFAULT);
        assert_eq!(accepted, Ok(json!({ "body": { "temperature": 20 } })));

        let refused = accept(json!({ "body": {} }), Some(&schema), &Limits::DEFAULT).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InvalidOutput);
        assert!(refused.message.contains("/body") && refused.message.contains("temperature"), "{}", refused.message);
    }

    #[test]
    fn an_output_past_the_limit_is_refused_and_says_how_large_it_was() {
        let limits = Limits { step_output_bytes: 10, ..Limits::DEFAULT };
        let refused = accept(json!("0123456789"), None, &limits).unwrap_err();
        assert!(refused.message.contains("12 bytes"), "{}", refused.message);
    }

    proptest! {
        #[test]
        fn no_nul_is_left_anywhere(key in "[a\0]{0,4}", text in "[b\0]{0,4}") {
            let mut value = json!([{ key: [text] }]);
            remove_nul(&mut value);
            prop_assert!(!value.to_string().contains("\\u0000"));
        }
    }

    #[test]
    fn bytes_are_those_of_the_text() {
        let value = json!({ "ä": [1, "\n", null] });
        assert_eq!(json_bytes(&value), value.to_string().len());
    }
}
