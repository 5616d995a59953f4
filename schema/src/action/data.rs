//! `data.transform` and `data.assert`: JMESPath, nothing else. Computed where their step stands, on its scope: by the
//! engine in a run, and by a rehearsal, which shows what they come to.

use serde_json::{Map, Value};

use crate::{
    run::{ErrorKind, StepFailure},
    template::{self, Fuel, Scope, is_truthy},
};

/// Fields that hold an expression. They are evaluated when the step runs, and never rendered before: a value that a
/// step returned must not become an expression.
const EXPRESSIONS: [&str; 2] = ["expr", "that"];

/// Whether the engine itself computes steps of that action, from pinned inputs.
pub fn is_pure(uses: &str) -> bool {
    uses.starts_with("data.")
}

/// Renders the `with` of any step.
///
/// # Errors
/// As [`template::render`].
pub fn render(uses: &str, with: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    if uses.starts_with("http.") {
        return template::render_request(with, scope);
    }
    let (plain, expressions) = apart(uses, with);
    Ok(together(template::render(&plain, scope)?, expressions))
}

/// What of `with` is rendered, and the expressions of a `data.*` step, which are not.
pub(crate) fn apart(uses: &str, with: &Value) -> (Value, Map<String, Value>) {
    let Value::Object(fields) = with else { return (with.clone(), Map::new()) };
    if !uses.starts_with("data.") {
        return (with.clone(), Map::new());
    }
    let (expressions, plain) = fields.clone().into_iter().partition(|(name, _)| EXPRESSIONS.contains(&name.as_str()));
    (Value::Object(plain), expressions)
}

/// The input that both parts make.
pub(crate) fn together(mut rendered: Value, expressions: Map<String, Value>) -> Value {
    if let Value::Object(fields) = &mut rendered {
        fields.extend(expressions);
    }
    rendered
}

/// Computes a pure step from its rendered input.
///
/// # Errors
/// `template` for a bad expression; `client_error` for an assertion that does not hold.
pub fn perform(uses: &str, input: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    perform_on(uses, input, scope, &Fuel::default())
}

/// As [`perform`], on fuel that others share.
pub(crate) fn perform_on(uses: &str, input: &Value, scope: &Scope, fuel: &Fuel) -> Result<Value, StepFailure> {
    match uses {
        "data.transform" => transform(input, scope, fuel),
        "data.assert" => assert(input, scope, fuel),
        other => Err(StepFailure::new(ErrorKind::ClientError, format!("there is no action `{other}`"))),
    }
}

/// `expr` over `input`, or over everything that templates may name.
fn transform(input: &Value, scope: &Scope, fuel: &Fuel) -> Result<Value, StepFailure> {
    let Some(expression) = input.get("expr").and_then(Value::as_str) else {
        return Err(StepFailure::new(ErrorKind::ClientError, "data.transform needs `expr`: a JMESPath expression"));
    };
    match input.get("input") {
        Some(root) => template::search_on(expression, root, fuel),
        None => template::evaluate_on(expression, scope, fuel),
    }
}

fn assert(input: &Value, scope: &Scope, fuel: &Fuel) -> Result<Value, StepFailure> {
    let value = match input.get("that") {
        Some(Value::String(expression)) => template::evaluate_on(expression, scope, fuel)?,
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
