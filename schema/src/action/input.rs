//! Judges `with` against an action's input schema before anything is rendered.
//!
//! What a template will give is not known yet: a value that is or contains one is not judged by its type or text,
//! but required and unknown keys are, everywhere.

use std::{collections::BTreeMap, sync::LazyLock};

use jsonschema::{Draft, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

use crate::{
    event::check_published_topic,
    fault::{Fault, FaultCode, Faults, child, nearest},
    json_schema,
    template::has_template,
};

use super::{Catalogue, built_in, parking};

static BUILT_IN: LazyLock<BTreeMap<&'static str, Validator>> = LazyLock::new(|| {
    built_in()
        .iter()
        .map(|descriptor| {
            let validator = json_schema::compile(&descriptor.input_schema, None)
                .expect("the schemas of built-in actions are valid");
            (descriptor.name.as_str(), validator)
        })
        .collect()
});

/// How many unknown keys of one object are named.
const SHOWN: usize = 20;

/// Fields of a step that people put into `with`.
const STEP_FIELDS: [&str; 9] =
    ["save_as", "if", "foreach", "max_parallel", "timeout", "retry", "expect", "on_error", "idempotent"];

/// Judges the input of a step that `uses` a known action.
pub(crate) fn judge(uses: &str, with: &Value, path: &str, catalogue: &Catalogue, faults: &mut Faults) {
    let empty = Value::Object(serde_json::Map::new());
    let input = if with.is_null() { &empty } else { with };
    let compiled;
    let validator = if let Some(validator) = BUILT_IN.get(uses) {
        validator
    } else {
        let Some(tool) = catalogue.tools.get(uses) else { return };
        // A tool whose server declares a schema that cannot be read is judged by the server, at the call.
        let Ok(validator) = json_schema::compile(&tool.input_schema, None) else { return };
        compiled = validator;
        &compiled
    };
    // A foreign server's is not shown: its words are data.
    let example = built_in().iter().find(|descriptor| descriptor.name == uses).map(|descriptor| &descriptor.example);
    let allowed = catalogue.find(uses).and_then(|descriptor| descriptor.input_schema.get("properties"));
    for error in validator.iter_errors(input) {
        if counts(&error) {
            faults.extend(explain(&error, uses, path, allowed, example));
        }
    }
    beyond_schema(uses, input, path, faults);
}

fn counts(error: &ValidationError<'_>) -> bool {
    match error.kind() {
        ValidationErrorKind::Required { .. }
        | ValidationErrorKind::AdditionalProperties { .. }
        | ValidationErrorKind::UnevaluatedProperties { .. } => !is_templated(error.instance()),
        _ => !contains_template(error.instance()),
    }
}

fn is_templated(value: &Value) -> bool {
    value.as_str().is_some_and(has_template)
}

fn contains_template(value: &Value) -> bool {
    match value {
        Value::String(text) => has_template(text),
        Value::Array(items) => items.iter().any(contains_template),
        Value::Object(fields) => fields.values().any(contains_template),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn explain(
    error: &ValidationError<'_>,
    uses: &str,
    path: &str,
    allowed: Option<&Value>,
    example: Option<&Value>,
) -> Vec<Fault> {
    let at = json_path(path, error.instance_path().as_str());
    let top = error.instance_path().as_str().is_empty();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .take(SHOWN)
            .map(|name| {
                let known: Vec<&str> = allowed
                    .filter(|_| top)
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                    .map(|(k, _)| k.as_str())
                    .collect();
                unknown_key(&at, name, uses, &known)
            })
            .collect(),
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let example = example.filter(|_| top).and_then(|example| example.get(name));
            let such = example.map_or_else(String::new, |example| format!(", such as {example}"));
            vec![Fault::new(child(&at, name), FaultCode::BadInput, format!("`{uses}` needs `{name}`{such}"))]
        }
        _ => {
            let text: String = error.to_string().chars().take(300).collect();
            vec![Fault::new(at, FaultCode::BadInput, format!("`{uses}`: {text}"))]
        }
    }
}

fn unknown_key(at: &str, name: &str, uses: &str, known: &[&str]) -> Fault {
    let path = child(at, name);
    if known.is_empty() {
        return Fault::new(path, FaultCode::BadInput, format!("`{uses}` takes no `{name}` here"));
    }
    let takes = known.join(", ");
    if STEP_FIELDS.contains(&name) {
        return Fault::new(
            path,
            FaultCode::BadInput,
            format!("`{name}` belongs to the step: put it beside `with`, not into it (`{uses}` takes {takes})"),
        );
    }
    let fault = Fault::new(path, FaultCode::BadInput, format!("`{uses}` takes no `{name}`; it takes {takes}"));
    match nearest(name, known.iter().copied()) {
        Some(near) => fault.suggest(near),
        None => fault,
    }
}

/// A JSON pointer as the path that faults speak.
fn json_path(root: &str, pointer: &str) -> String {
    pointer.split('/').skip(1).fold(root.to_owned(), |path, part| {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|b| b.is_ascii_digit()) { format!("{path}[{part}]") } else { child(&path, &part) }
    })
}

/// What a schema cannot say well.
fn beyond_schema(uses: &str, input: &Value, path: &str, faults: &mut Faults) {
    let literal = |name: &str| input.get(name).and_then(Value::as_str).filter(|text| !has_template(text));
    if uses.starts_with("http.") {
        let bodies: Vec<_> = ["json", "form", "body"].into_iter().filter(|name| input.get(name).is_some()).collect();
        if bodies.len() > 1 {
            faults.add(path, FaultCode::BadInput, format!("a request has one body: keep one of {}", bodies.join(", ")));
        }
        if let Some(Err(why)) = literal("url").filter(|url| !url.is_empty()).map(judge_url) {
            faults.add(child(path, "url"), FaultCode::BadInput, why);
        }
    }
    if let ("llm.generate", Some(schema)) = (uses, input.get("schema"))
        && !contains_template(schema)
        && let Err(why) = json_schema::compile(schema, Some(Draft::Draft202012))
    {
        faults.add(child(path, "schema"), FaultCode::BadSchema, format!("`schema` is no JSON Schema: {why}"));
    }
    if let ("event.publish", Some(topic)) = (uses, literal("topic").filter(|topic| !topic.is_empty()))
        && let Err(fault) = check_published_topic(topic)
    {
        faults.push(Fault { path: child(path, "topic"), ..fault });
    }
    parking::judge(uses, input, path, faults);
}

pub(crate) fn judge_url(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text)
        .map_err(|error| format!("`{text}` is not a URL ({error}); write one such as https://api.example.com/items"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}:` is not fetched; write an http:// or https:// URL", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL must not carry a user name or password: they would be kept in the history".to_owned());
    }
    Ok(())
}
