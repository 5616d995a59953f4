//! One request of an evaluation set, as its file says it (mcp-server/evals/README.md).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ordinaut_schema::{limits::Limits, task};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The set that ships with the server.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("evals/requests")
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The file's name without `.yaml`.
    #[serde(default)]
    pub(crate) id: String,
    pub(crate) request: String,
    /// `ORDINAUT_TIMEZONE` of the server; without it, it knows none.
    pub(crate) zone: Option<String>,
    /// Names for what depends on the present or on what was set up: each the one value that its query answers.
    #[serde(default, rename = "let")]
    pub(crate) names: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) given: Vec<Given>,
    /// What the person fills into a form that the server has them shown.
    pub(crate) person: Option<Value>,
    pub(crate) transcript: Vec<Call>,
    /// What the last answer must hold: the facts that any right reply has.
    #[serde(default)]
    pub(crate) answer: Vec<String>,
    pub(crate) judge: Vec<Judgement>,
}

/// What is there before the person asks.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Given {
    Call(Called),
    Sql(Sql),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Called {
    pub(crate) tool: String,
    #[serde(default)]
    pub(crate) with: Map<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sql {
    pub(crate) sql: String,
}

/// A call of the transcript: written out, or the call before with some values set anew.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    #[serde(default)]
    pub(crate) tool: String,
    #[serde(default)]
    pub(crate) with: Map<String, Value>,
    /// JSON pointers into the arguments of the call before; `null` takes the value away.
    pub(crate) again: Option<Map<String, Value>>,
    pub(crate) refused: Option<Refused>,
}

/// What a refusal must say, and from which of its words the next call is mended.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    pub(crate) code: String,
    /// Path to code; those named, no more and no less.
    #[serde(default)]
    pub(crate) faults: BTreeMap<String, String>,
    pub(crate) mend_from: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Judgement {
    pub(crate) sql: String,
    /// The rows as objects; a bare value is one row of one column.
    pub(crate) is: Value,
}

impl Case {
    /// # Errors
    /// What is wrong with the text, for whoever wrote it.
    pub(crate) fn parse(id: &str, text: &str) -> Result<Self, String> {
        let read = task::read(text, &Limits::DEFAULT).map_err(|faults| faults.to_string())?;
        let [value] = <[Value; 1]>::try_from(read).map_err(|_| "one request a file")?;
        let mut case: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if !case.id.is_empty() && case.id != id {
            return Err(format!("its id is `{}`, and its file's name says `{id}`", case.id));
        }
        id.clone_into(&mut case.id);
        for n in 0..case.transcript.len() {
            let (before, rest) = case.transcript.split_at_mut(n);
            rest[0].repeat(before.last())?;
        }
        if case.judge.is_empty() || case.transcript.is_empty() {
            return Err("a request has a transcript and is judged by one query at least".to_owned());
        }
        if case.transcript.last().is_some_and(|call| call.refused.is_some()) && case.answer.is_empty() {
            return Err("a transcript that ends in a refusal names the facts that it answers with".to_owned());
        }
        Ok(case)
    }

    /// All requests of a directory, by id.
    ///
    /// # Errors
    /// Every file that cannot be read, by its name.
    pub(crate) fn read_set(directory: &Path) -> Result<Vec<Self>, String> {
        let unreadable = |error: std::io::Error| format!("{}: {error}", directory.display());
        let (mut cases, mut wrong) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if !path.extension().is_some_and(|it| it == "yaml" || it == "json") {
                continue;
            }
            let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| Self::parse(&id, &text))
            {
                Ok(case) => cases.push(case),
                Err(why) => wrong.push(format!("{}: {why}", path.display())),
            }
        }
        cases.sort_by(|a, b| a.id.cmp(&b.id));
        match (wrong.is_empty(), cases.is_empty()) {
            (false, _) => Err(wrong.join("\n")),
            (true, true) => Err(format!("{}: no request there", directory.display())),
            (true, false) => Ok(cases),
        }
    }
}

impl Call {
    /// Writes out a call that repeats the one before it.
    fn repeat(&mut self, before: Option<&Self>) -> Result<(), String> {
        let Some(changes) = self.again.take() else {
            return if self.tool.is_empty() { Err("a call has `tool` or `again`".to_owned()) } else { Ok(()) };
        };
        let before = before.ok_or("the first call has nothing to repeat")?;
        if !self.with.is_empty() || !(self.tool.is_empty() || self.tool == before.tool) {
            return Err("`again` repeats the call before: it has neither `with` nor another `tool`".to_owned());
        }
        self.tool.clone_from(&before.tool);
        let mut arguments = Value::Object(before.with.clone());
        for (pointer, value) in changes {
            set(&mut arguments, &pointer, value)?;
        }
        let Value::Object(with) = arguments else { return Err("the arguments are an object".to_owned()) };
        self.with = with;
        Ok(())
    }
}

/// Sets or, with `null`, removes what a JSON pointer names.
pub(crate) fn set(at: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let wrong = || format!("`{pointer}` names nothing in the arguments of the call before");
    let (parent, last) = pointer.rsplit_once('/').ok_or_else(wrong)?;
    match at.pointer_mut(parent).ok_or_else(wrong)? {
        Value::Object(fields) if value.is_null() => drop(fields.shift_remove(last).ok_or_else(wrong)?),
        Value::Object(fields) => drop(fields.insert(last.to_owned(), value)),
        Value::Array(items) => {
            let item = last.parse::<usize>().ok().and_then(|n| items.get_mut(n)).ok_or_else(wrong)?;
            *item = value;
        }
        _ => return Err(wrong()),
    }
    Ok(())
}
