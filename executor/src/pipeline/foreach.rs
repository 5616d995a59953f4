//! `foreach`: one step over a list; each item is journaled by itself, the list is pinned with the step.

use ordinaut_schema::{
    condition::Condition,
    pipeline::{OnError, Step},
    run::{ErrorKind, StepFailure, StepRecord, StepState},
    secret::mark,
    template,
};
use serde_json::Value;

use super::{Engine, Halt, step::Place};

impl Engine<'_> {
    pub(super) async fn foreach(&self, step: &Step, list: &str) -> Result<(), Halt> {
        let mut whole = match self.journal.find(&step.id, None) {
            Some(record) if record.state == StepState::Started => record,
            Some(_finished) => return Ok(()),
            None => {
                self.orders.may_start().await?;
                if self.is_skipped(step)? {
                    return Ok(());
                }
                let items = self.list(step, list).map_err(|failure| self.refuse(step, Value::Null, failure))?;
                let whole = self.new_record(&Place::alone(step), items);
                self.journal.put(whole.clone());
                whole
            }
        };
        let items = whole.input.as_array().map(Vec::as_slice).unwrap_or_default();
        let limit = step.max_parallel.map_or(1, usize::from);
        let keep_going = step.on_error == OnError::Continue;
        let places: Vec<_> = items.iter().enumerate().map(|(n, item)| Place::item(step, n, item)).collect();
        let ended = self.side_by_side(&places, limit, keep_going).await;
        match ended {
            Ok(()) => {
                let outputs = (0..items.len()).map(|n| self.item_output(step, n)).collect();
                whole.output = Value::Array(outputs);
                whole.state = StepState::Succeeded;
                self.fits(&whole.output).map_err(|failure| self.refuse(step, whole.input.clone(), failure))?;
            }
            Err(Halt::Failed(failure)) => {
                whole.state = StepState::Failed;
                whole.error = Some(failure.clone());
                whole.finished_at = Some(self.around.clock.now());
                self.journal.put(whole);
                return Err(Halt::Failed(failure));
            }
            Err(halt) => return Err(halt),
        }
        whole.finished_at = Some(self.around.clock.now());
        self.journal.put(whole);
        Ok(())
    }

    /// Judges `if`, once; a falsy one is journaled.
    pub(super) fn is_skipped(&self, step: &Step) -> Result<bool, Halt> {
        let Some(condition) = &step.condition else { return Ok(false) };
        let holds = Condition::parse(condition, "if")
            .map_err(|fault| StepFailure::new(ErrorKind::Template, fault.to_string()))
            .and_then(|condition| condition.holds(&self.scope()))
            .map_err(|failure| self.refuse(step, Value::Null, failure))?;
        if !holds {
            let now = self.around.clock.now();
            let record = self.new_record(&Place::alone(step), Value::Null);
            self.journal.put(StepRecord { state: StepState::Skipped, finished_at: Some(now), ..record });
        }
        Ok(!holds)
    }

    /// A skipped step's output is `null`, and a list that is `null` has no items.
    fn list(&self, step: &Step, expression: &str) -> Result<Value, StepFailure> {
        let mut list = template::evaluate(expression, &self.scope())?;
        // Kept as the input of the step: nothing in it may read as the mark of a secret.
        mark::clean(&mut list);
        match list {
            Value::Null => Ok(Value::Array(Vec::new())),
            Value::Array(items) if items.len() > self.around.limits.foreach_items => Err(StepFailure::new(
                ErrorKind::Template,
                format!(
                    "foreach of step `{}` yields {} items, more than the {} allowed; slice the list, as in `[:{}]`",
                    step.id,
                    items.len(),
                    self.around.limits.foreach_items,
                    self.around.limits.foreach_items
                ),
            )),
            Value::Array(items) => Ok(Value::Array(items)),
            other => Err(StepFailure::new(
                ErrorKind::Template,
                format!("foreach of step `{}` must yield a list, and `{expression}` is {}", step.id, kind_of(&other)),
            )),
        }
    }

    fn item_output(&self, step: &Step, n: usize) -> Value {
        self.journal.find(&step.id, u32::try_from(n).ok()).map_or(Value::Null, |record| record.output)
    }
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
