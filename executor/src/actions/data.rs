//! `data.transform` and `data.assert`: JMESPath, nothing else. Computed by the engine, on the scope of their step.

use ordinaut_schema::{
    run::{ErrorKind, StepFailure},
    template::{self, Scope, is_truthy},
};
use serde_json::{Map, Value};

/// Fields that hold an expression. They are evaluated when the step runs, and never rendered before: a value that a
/// step returned must not become an expression.
const EXPRESSIONS: [&str; 2] = ["expr", "that"];

/// Renders the `with` of any step.
///
/// # Errors
/// As [`template::render`].
pub fn render(uses: &str, with: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    let Value::Object(fields) = with else { return template::render(with, scope) };
    if uses.starts_with("http.") {
        return template::render_request(with, scope);
    }
    if !uses.starts_with("data.") {
        return template::render(with, scope);
    }
    let is_expression = |name: &str| EXPRESSIONS.contains(&name);
    let plain: Map<String, Value> = fields
        .iter()
        .filter(|(name, _)| !is_expression(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut rendered = template::render(&Value::Object(plain), scope)?;
    if let Value::Object(rendered) = &mut rendered {
        let expressions = fields.iter().filter(|(name, _)| is_expression(name));
        rendered.extend(expressions.map(|(name, value)| (name.clone(), value.clone())));
    }
    Ok(rendered)
}

/// Computes a pure step from its rendered input.
///
/// # Errors
/// `template` for a bad expression; `client_error` for an assertion that does not hold.
pub fn perform(uses: &str, input: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    match uses {
        "data.transform" => transform(input, scope),
        "data.assert" => assert(input, scope),
        other => Err(StepFailure::new(ErrorKind::ClientError, format!("there is no action `{other}`"))),
    }
}

/// `expr` over `input`, or over everything that templates may name.
fn transform(input: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    let Some(expression) = input.get("expr").and_then(Value::as_str) else {
        return Err(StepFailure::new(ErrorKind::ClientError, "data.transform needs `expr`: a JMESPath expression"));
    };
    match input.get("input") {
        Some(root) => template::search(expression, root),
        None => template::evaluate(expression, scope),
    }
}

fn assert(input: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    let value = match input.get("that") {
        Some(Value::String(expression)) => template::evaluate(expression, scope)?,
        Some(value) => value.clone(),
        None => return Err(StepFailure::new(ErrorKind::ClientError, "data.assert needs `that`: what must hold")),
    };
    if is_truthy(&value) {
        return Ok(value);
    }
    let message = input.get("message").and_then(Value::as_str).unwrap_or("the assertion does not hold");
    // Judged on pinned values: another try gives the same answer.
    Err(StepFailure::new(ErrorKind::ClientError, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_that_a_step_returned_is_never_read_as_an_expression() {
        let mut scope = Scope::default();
        scope.steps.insert("a".to_owned(), json!("params.secret"));
        scope.params = json!({ "secret": 42 });
        let input = render("data.assert", &json!({ "that": "${steps.a}", "message": "no" }), &scope).unwrap();
        assert_eq!(perform("data.assert", &input, &scope), Ok(json!("params.secret")));
    }

    #[test]
    fn an_assertion_that_does_not_hold_says_its_message() {
        let mut scope = Scope::default();
        scope.steps.insert("a".to_owned(), json!([]));
        let with = json!({ "that": "length(steps.a) > 0", "message": "nothing came for ${params.city}" });
        scope.params = json!({ "city": "Chisinau" });
        let input = render("data.assert", &with, &scope).unwrap();
        assert_eq!(perform("data.assert", &input, &scope).unwrap_err().message, "nothing came for Chisinau");
    }

    #[test]
    fn a_transform_reads_its_input_or_else_all_that_templates_see() {
        let mut scope = Scope::default();
        scope.steps.insert("a".to_owned(), json!({ "items": [1, 2, 3] }));
        let with = json!({ "input": "${steps.a}", "expr": "items[-1]" });
        let input = render("data.transform", &with, &scope).unwrap();
        assert_eq!(perform("data.transform", &input, &scope), Ok(json!(3)));
        assert_eq!(perform("data.transform", &json!({ "expr": "length(steps.a.items)" }), &scope), Ok(json!(3)));
    }
}
