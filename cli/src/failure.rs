//! Why a command did not do what it was asked, as the code it exits with and the words it says.

use std::error::Error;
use std::fmt::Write as _;

use ordinaut_schema::fault::Fault;
use ordinaut_store::{StoreError, embedded::EmbeddedError, secrets::SecretError};
use serde_json::{Value, json};

/// What scripts can tell apart. The numbers are part of the interface: `--help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Refused = 2,
    Missing = 3,
    NotFound = 4,
    NotRunning = 5,
    TimedOut = 6,
}

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the run failed, or something unforeseen
  2  the command line or a definition was refused; nothing was stored
  3  something is missing on this machine (PostgreSQL, Redis, a program of Ordinaut's)
  4  no such task, run, approval, agent or secret
  5  Ordinaut, or the database it was pointed at, is not running
  6  waited as long as it was told, and it is not over";

/// A fault of a definition, with the file it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) file: String,
    /// From 1, where it is known.
    pub(crate) line: Option<u64>,
    pub(crate) fault: Fault,
}

#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever read our output went away: nothing is wrong, and nobody listens.
    ReaderGone,
    Told {
        exit: Exit,
        message: String,
        mend: Option<String>,
    },
    /// Definitions that were refused.
    Faults(Vec<Located>),
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told { exit, message: message.into(), mend: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn mend(self, advice: impl Into<String>) -> Self {
        match self {
            Self::Told { exit, message, .. } => Self::Told { exit, message, mend: Some(advice.into()) },
            other @ (Self::ReaderGone | Self::Faults(_)) => other,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Told { exit, .. } => *exit as u8,
            Self::Faults(_) => Exit::Refused as u8,
        }
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::ReaderGone => Value::Null,
            Self::Told { exit, message, mend } => {
                json!({ "error": { "exit": *exit as u8, "message": message, "mend": mend } })
            }
            Self::Faults(faults) => {
                let faults: Vec<_> = faults
                    .iter()
                    .map(|located| {
                        let Fault { path, code, message, suggestion } = &located.fault;
                        json!({
                            "file": located.file,
                            "line": located.line,
                            "path": path,
                            "code": code,
                            "message": message,
                            "suggestion": suggestion,
                        })
                    })
                    .collect();
                json!({ "error": { "exit": self.code(), "message": self.to_text(), "faults": faults } })
            }
        }
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::ReaderGone => String::new(),
            Self::Told { message, mend: None, .. } => message.clone(),
            Self::Told { message, mend: Some(mend), .. } => format!("{message}\n  {mend}"),
            Self::Faults(faults) => {
                let mut text = String::new();
                for Located { file, line, fault } in faults {
                    match line {
                        Some(line) => write!(text, "{file}:{line}: {fault}"),
                        None => write!(text, "{file}: {fault}"),
                    }
                    .expect("writing to a string does not fail");
                    text.push('\n');
                }
                let (count, s) = (faults.len(), if faults.len() == 1 { "" } else { "s" });
                text + &format!("{count} fault{s}; nothing was stored")
            }
        }
    }
}

/// An error with its causes, each once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error {
            StoreError::TaskNotFound { near, .. } if !near.is_empty() => {
                Self::new(Exit::NotFound, text).mend(format!("did you mean {}?", quoted(&near)))
            }
            StoreError::TaskNotFound { .. } => Self::new(Exit::NotFound, text).mend("`ordinaut tasks` lists them"),
            StoreError::RunNotFound(_) => Self::new(Exit::NotFound, text).mend("`ordinaut runs` lists them"),
            StoreError::ApprovalNotFound(_) => {
                Self::new(Exit::NotFound, text).mend("`ordinaut approve` lists what waits")
            }
            StoreError::ApprovalRefused { .. } => {
                Self::new(Exit::Refused, text).mend("`ordinaut approve` lists what waits, as it is now")
            }
            StoreError::OverBudget { .. } => Self::new(Exit::Refused, text)
                .mend("wait until then, or raise the limit: of the task in its definition, of the agent by `ordinaut agent budget`"),
            StoreError::NotAsShown { .. } => {
                Self::new(Exit::Refused, text).mend("the same command shows what it is now")
            }
            StoreError::RunState { run, .. } => {
                Self::new(Exit::Refused, text).mend(format!("`ordinaut runs {run}` shows how it stands"))
            }
            StoreError::RequestUsed { .. } => Self::new(Exit::Refused, text).mend("draw a new request id"),
            StoreError::AgentNotFound(_) => {
                Self::new(Exit::NotFound, text).mend("`ordinaut agent list` lists them, `ordinaut agent add` makes one")
            }
            StoreError::AgentNameTaken(_) => {
                Self::new(Exit::Refused, text).mend("choose another name, or give it one more token with `--label`")
            }
            StoreError::Database { .. } | StoreError::Unknown { .. } if error.is_retryable() => {
                Self::new(Exit::NotRunning, text).mend("`ordinaut doctor` says what answers and what does not")
            }
            _ => Self::new(Exit::Failed, text),
        }
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        let exit = match error {
            SecretError::Store(error) => return error.into(),
            SecretError::Unknown { .. } => Exit::NotFound,
            SecretError::NoKey(_) | SecretError::BadKey { .. } => Exit::Missing,
            SecretError::OtherKey { .. } | SecretError::Damaged { .. } => Exit::Failed,
            SecretError::BadName(_)
            | SecretError::BadHost(_)
            | SecretError::BadBinding(_)
            | SecretError::Unbound
            | SecretError::TooShort
            | SecretError::TooLong
            | SecretError::Nul
            | SecretError::NotBound { .. } => Exit::Refused,
        };
        let is_unbound = matches!(error, SecretError::Unbound);
        let failure = Self::new(exit, error.to_string());
        if is_unbound { failure.mend("add --host api.example.com, --server NAME or --channel NAME") } else { failure }
    }
}

impl From<EmbeddedError> for Failure {
    fn from(error: EmbeddedError) -> Self {
        let exit = match &error {
            EmbeddedError::Missing { .. } | EmbeddedError::OtherMajor { .. } => Exit::Missing,
            EmbeddedError::StillStarting { .. } => Exit::TimedOut,
            EmbeddedError::SetFailed { reason } if reason.contains("is not installed") => Exit::Missing,
            EmbeddedError::SetFailed { .. } | EmbeddedError::NotReady { .. } | EmbeddedError::Ended { .. } => {
                Exit::NotRunning
            }
            EmbeddedError::Directory { .. }
            | EmbeddedError::SocketPathTooLong { .. }
            | EmbeddedError::Io { .. }
            | EmbeddedError::Database { .. }
            | EmbeddedError::AlreadyRunning { .. }
            | EmbeddedError::DoesNotStop { .. } => Exit::Failed,
        };
        Self::new(exit, chain(&error))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<EmbeddedError>() {
            Ok(error) => error.into(),
            Err(error) => Self::new(Exit::Failed, format!("{error:#}")),
        }
    }
}

/// `a`, `b` or `c`.
pub(crate) fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::fault::FaultCode;

    use super::*;

    #[test]
    fn every_fault_is_told_with_its_file_line_and_path() {
        let fault = |path: &str, message: &str| Fault::new(path, FaultCode::InvalidValue, message);
        let refused = Failure::Faults(vec![
            Located { file: "a.yaml".into(), line: Some(3), fault: fault("$.title", "is empty").suggest("`x`") },
            Located { file: "-".into(), line: None, fault: fault("$", "is no object") },
        ]);

        assert_eq!(
            refused.to_text(),
            "a.yaml:3: $.title: is empty (try `x`)\n-: $: is no object\n2 faults; nothing was stored"
        );
        assert_eq!(refused.to_json()["error"]["faults"][0]["line"], 3);
        assert_eq!(refused.code(), 2);
    }

    #[test]
    fn a_missing_task_names_those_that_come_near() {
        let failure = Failure::from(StoreError::TaskNotFound { task: "brief".into(), near: vec!["Briefing".into()] });
        assert_eq!(failure.code(), 4);
        assert!(failure.to_text().contains("did you mean `Briefing`?"));
    }
}
