//! What a tool answers: structured content for programs, and a compact text with the same in it.

use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, InputRequiredResult};
use serde_json::{Map, Value};

use crate::hints;

use super::call::Moment;

/// A line of the text.
#[derive(Debug)]
enum Line {
    Said(String),
    /// Names tools, which its reader may not see.
    Hint(String),
}

#[derive(Debug, Default)]
pub(super) struct Answer {
    fields: Map<String, Value>,
    lines: Vec<Line>,
    asks: Option<InputRequiredResult>,
}

impl Answer {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// No answer yet: the client is to ask the person first.
    pub(super) fn asking(form: InputRequiredResult) -> Self {
        Self { asks: Some(form), ..Self::default() }
    }

    /// One field of the structured content; `null` is left out.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !value.is_null() {
            self.fields.insert(name.to_owned(), value);
        }
        self
    }

    /// One line of the text; an empty one is left out.
    #[must_use]
    pub(super) fn line(mut self, line: impl Into<String>) -> Self {
        let line = line.into();
        if !line.is_empty() {
            self.lines.push(Line::Said(line));
        }
        self
    }

    /// One line that says what to do next, by the tools that its reader sees.
    #[must_use]
    pub(super) fn hint(mut self, line: impl Into<String>) -> Self {
        self.lines.push(Line::Hint(line.into()));
        self
    }

    #[must_use]
    pub(super) fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines.into_iter().map(Line::Said));
        self
    }

    /// `warnings`, in both.
    #[must_use]
    pub(super) fn warn(self, warnings: &[String]) -> Self {
        if warnings.is_empty() {
            return self;
        }
        self.with("warnings", warnings.to_vec()).lines(warnings.iter().map(|warning| format!("Warning: {warning}")))
    }

    /// `next_cursor`, in both.
    #[must_use]
    pub(super) fn more(self, cursor: Option<String>) -> Self {
        match cursor {
            Some(cursor) => {
                let line = format!("There is more: call again with cursor \"{cursor}\".");
                self.with("next_cursor", cursor).line(line)
            }
            None => self,
        }
    }

    pub(super) fn into_response(mut self, moment: &Moment, may_read: impl Fn(&str) -> bool) -> CallToolResponse {
        match self.asks.take() {
            Some(form) => form.into(),
            None => self.into_result(moment, may_read).into(),
        }
    }

    pub(super) fn into_result(mut self, moment: &Moment, may_read: impl Fn(&str) -> bool) -> CallToolResult {
        let now = moment.text();
        self.lines.push(Line::Said(format!("Now: {now} ({})", moment.zone.name())));
        let told = self.lines.into_iter().map(|line| match line {
            Line::Said(line) => line,
            Line::Hint(line) => hints::shown(&line, &may_read),
        });
        let text: Vec<String> = told.filter(|line| !line.is_empty()).collect();
        self.fields.insert("now".to_owned(), Value::from(now));
        self.fields.insert("zone".to_owned(), Value::from(moment.zone.name()));
        let mut result = CallToolResult::success(vec![ContentBlock::text(text.join("\n"))]);
        result.structured_content = Some(Value::Object(self.fields));
        result
    }
}
