//! `shell.exec`: one command of the operator's, by its id, without a shell.
//!
//! What it promises: nothing but what `[shell.<id>]` of `ordinaut.toml` names is ever run, as the argv that stands
//! there; a step adds arguments or an input only where the table lets it, and each argument arrives as it was given. The
//! program knows PATH, HOME, LANG, TZ and the three `ORDINAUT_…` names of this call; it and its children are killed at
//! the limit, at a cancellation, when the executor lets go or dies, and when they write more than is kept. That the agent may
//! run it is decided before a call comes here.
//!
//! `running` runs the program and hears it out; here is what is asked for, and what it came to.

use std::{collections::BTreeMap, ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use async_trait::async_trait;
use nix::{errno::Errno, sys::signal::Signal};
use ordinaut_schema::{
    action::not_taken,
    limits::Limits,
    operator::{Command, Operator},
    run::{ErrorKind, StepFailure},
    time::short,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::running::{End, Heard, Program};
use super::{
    Action, Answer, StepCall,
    http::{body::is_within_depth, own_limit},
};
use crate::operator::Standing;

mod running;

/// How much of standard error a message repeats.
const LAST_LINES: usize = 5;
const LAST_CHARS: usize = 500;

/// Performs `shell.exec`.
#[derive(Debug)]
pub struct ShellExec {
    standing: Standing,
    /// Of [`PASSED_ON`](super::group::PASSED_ON).
    environment: BTreeMap<String, OsString>,
    output_bytes: usize,
    json_depth: usize,
}

/// `with`, as rendered. A `null` is as if it were not there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    command: String,
    args: Option<Vec<Value>>,
    stdin: Option<Value>,
    exit_codes: Option<Vec<u8>>,
}

impl Asked {
    fn read(with: Value) -> Result<Self, StepFailure> {
        serde_json::from_value(with).map_err(|error| unfit(format!("`with` of `shell.exec` does not fit: {error}")))
    }

    /// The arguments as texts.
    fn args(&self) -> Result<Vec<String>, StepFailure> {
        let text = |arg: &Value| match arg {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(arg.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(unfit("`args` must hold texts, numbers or booleans; join a list, or use to_json()"))
            }
        };
        self.args.iter().flatten().map(text).collect()
    }

    fn stdin(&self) -> Option<Vec<u8>> {
        self.stdin.as_ref().map(|input| match input {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        })
    }

    fn expects(&self, code: i32) -> bool {
        match &self.exit_codes {
            Some(codes) => codes.iter().any(|expected| i32::from(*expected) == code),
            None => code == 0,
        }
    }
}

impl ShellExec {
    pub fn new(standing: Standing, environment: BTreeMap<String, OsString>, limits: &Limits) -> Self {
        Self { standing, environment, output_bytes: limits.step_output_bytes, json_depth: limits.json_depth }
    }

    /// The output of a program that ended as was expected.
    fn output(&self, id: &str, code: i32, heard: &Heard) -> Result<Value, StepFailure> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut output = json!({ "exit_code": code, "stdout": text(&heard.stdout), "stderr": text(&heard.stderr) });
        if let Ok(json @ (Value::Object(_) | Value::Array(_))) = serde_json::from_slice(&heard.stdout)
            && is_within_depth(&json, self.json_depth)
        {
            output["json"] = json;
        }
        if output.to_string().len() > self.output_bytes { Err(self.too_much(id)) } else { Ok(output) }
    }

    /// The command has had its effect, or a part of it: it is not for us to repeat it.
    fn too_much(&self, id: &str) -> StepFailure {
        let message = format!(
            "the command `{id}` wrote more than the {} bytes that are kept of a step; let it write less, or to a file",
            self.output_bytes
        );
        StepFailure::new(ErrorKind::InvalidOutput, message).sent(true)
    }
}

fn unfit(message: impl Into<String>) -> StepFailure {
    StepFailure::new(ErrorKind::ClientError, message)
}

/// The command of that id.
fn find<'o>(id: &str, operator: &'o Operator) -> Result<&'o Command, StepFailure> {
    operator.commands.get(id).ok_or_else(|| {
        let ids: Vec<_> = operator.commands.keys().map(String::as_str).collect();
        let known = if ids.is_empty() { "none is".to_owned() } else { format!("there is {}", ids.join(", ")) };
        unfit(format!(
            "the command `{id}` is not configured: {known}. A person adds one as a `[shell.{id}]` table in ordinaut.toml"
        ))
    })
}

/// Whether the operator lets steps give what this one gives.
fn judge(asked: &Asked, command: &Command) -> Result<(), StepFailure> {
    let gives_args = asked.args.as_ref().is_some_and(|args| !args.is_empty());
    for (field, given, allowed) in [("args", gives_args, command.args), ("stdin", asked.stdin.is_some(), command.stdin)]
    {
        if given && !allowed {
            return Err(StepFailure::new(ErrorKind::Denied, not_taken(&asked.command, field)));
        }
    }
    Ok(())
}

/// Why a program could not be started.
async fn not_started(id: &str, command: &Command, error: &io::Error) -> StepFailure {
    let why = match &command.directory {
        Some(directory) if tokio::fs::metadata(directory).await.is_err() => {
            format!("its directory `{directory}` is not there")
        }
        _ => format!("`{}`: {error}", command.argv[0]),
    };
    // What this machine lacks just now, it may have later.
    let is_passing = matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::ETXTBSY)
    );
    let kind = if is_passing { ErrorKind::Connection } else { ErrorKind::ClientError };
    StepFailure::new(kind, format!("the command `{id}` cannot be run: {why}; the operator mends `[shell.{id}]`"))
}

/// What an end that was not expected says.
fn ended(id: &str, status: ExitStatus, heard: &Heard) -> StepFailure {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |it| it.as_str().to_owned());
            format!("was killed by {name}")
        }
        (None, None) => "ended in no known way".to_owned(),
    };
    let said = match last_lines(&heard.stderr) {
        lines if lines.is_empty() => String::new(),
        lines => format!(": {lines}"),
    };
    StepFailure::new(ErrorKind::ToolError, format!("the command `{id}` {how}{said}"))
}

/// The end of what was written to standard error, on one line.
fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines: Vec<&str> =
        text.lines().rev().map(str::trim).filter(|line| !line.is_empty()).take(LAST_LINES).collect();
    lines.reverse();
    let joined: String = lines.join(" | ").chars().filter(|c| !c.is_control()).collect();
    let excess = joined.chars().count().saturating_sub(LAST_CHARS);
    joined.chars().skip(excess).collect()
}

#[async_trait]
impl Action for ShellExec {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let asked = Asked::read(call.input)?;
        let id = &asked.command;
        // As the file says now: an edit holds from the next call on.
        let operator = self.standing.borrow().clone();
        let command = find(id, &operator)?;
        judge(&asked, command)?;
        let own = [
            ("ORDINAUT_IDEMPOTENCY_KEY", call.idempotency_key),
            ("ORDINAUT_RUN_ID", call.run.to_string()),
            ("ORDINAUT_TASK_ID", call.task.to_string()),
        ];
        let program = Program {
            argv: &command.argv,
            args: &asked.args()?,
            stdin: asked.stdin(),
            directory: command.directory.as_deref(),
            environment: &self.environment,
            own: &own.map(|(name, value)| (name.to_owned(), value)).into(),
        };
        let deadline = Instant::now() + command.timeout.min(own_limit(call.limit));
        let ran = program.run(deadline, &call.cancelled, self.output_bytes).await;
        let (end, heard) = match ran {
            Ok(ran) => ran,
            Err(error) => return Err(not_started(id, command, &error).await),
        };
        match end {
            End::Exited(status) => match status.code().filter(|code| asked.expects(*code)) {
                Some(code) => self.output(id, code, &heard).map(Answer::Output),
                None => Err(ended(id, status, &heard)),
            },
            End::TooMuch => Err(self.too_much(id)),
            End::TimedOut => {
                let (limit, whose) = if command.timeout < call.limit {
                    (command.timeout, "the operator's limit for it")
                } else {
                    (call.limit, "`timeout` of the step")
                };
                let message =
                    format!("the command `{id}` did not end within {} ({whose}), and was killed", short(limit));
                Err(StepFailure::new(ErrorKind::Timeout, message).sent(true))
            }
            End::Cancelled => {
                let message = format!("the run was cancelled while the command `{id}` ran, and it was killed");
                Err(StepFailure::new(ErrorKind::Cancelled, message).sent(true))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_standard_error_are_one_bounded_line() {
        assert_eq!(last_lines(b"1\n2\n3\n\n4\n5\n  6\x1b[0m\n"), "2 | 3 | 4 | 5 | 6[0m");
        assert_eq!(last_lines(&[b'x'; 9999]).len(), LAST_CHARS);
        assert_eq!(last_lines(b""), "");
    }
}
