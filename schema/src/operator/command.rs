//! `[shell.<id>]`: one command that `shell.exec` may run, as an argv array.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{action::Takes, fault::FaultCode, fields::Fields};

const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_hours(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments; no shell reads them. Never empty.
    pub argv: Vec<String>,
    /// Absolute.
    pub directory: Option<String>,
    pub timeout: Duration,
    /// A step may add arguments, which follow those of `argv`.
    pub args: bool,
    /// A step may give what the program reads from its standard input.
    pub stdin: bool,
    /// What it does, for those who write definitions.
    pub sentence: Option<String>,
}

impl Command {
    /// What a step may add to it.
    pub fn takes(&self) -> Takes {
        Takes { args: self.args, stdin: self.stdin }
    }

    /// What definitions are told of it: the operator's sentence, else the program's name, and what a step may add.
    /// Arguments may be private.
    pub(super) fn about(&self) -> String {
        let program = || Path::new(&self.argv[0]).file_name().map(|name| name.to_string_lossy().into_owned());
        let what = self.sentence.clone().or_else(program).unwrap_or_default();
        match (self.args, self.stdin) {
            (false, false) => what,
            (true, false) => format!("{what} (takes args)"),
            (false, true) => format!("{what} (takes stdin)"),
            (true, true) => format!("{what} (takes args and stdin)"),
        }
    }
}

pub(super) fn read(mut fields: Fields<'_, '_>) -> Option<Command> {
    fields.missing("argv", "write the program and its arguments, such as argv = [\"/usr/bin/backup\", \"--now\"]");
    let argv = fields.list("argv").map(|items| items.iter().map(Value::as_str).map(|it| it.map(str::to_owned)));
    let argv: Option<Vec<String>> = argv.and_then(Iterator::collect);
    let is_good = argv.as_ref().is_some_and(|argv| argv.first().is_some_and(|program| !program.trim().is_empty()));
    if fields.has("argv") && !is_good {
        fields.fault("argv", FaultCode::InvalidValue, "`argv` must be a list of texts that begins with a program");
    }
    let directory = fields.line("directory", 4096).map(str::to_owned);
    if directory.as_ref().is_some_and(|path| !path.starts_with('/')) {
        fields.fault("directory", FaultCode::InvalidValue, "`directory` must be absolute: it begins with `/`");
    }
    let timeout = fields.duration("timeout", LEAST..=MOST).unwrap_or(Duration::from_mins(1));
    let takes_args = fields.flag("args").unwrap_or_default();
    let takes_stdin = fields.flag("stdin").unwrap_or_default();
    let sentence = fields.line("sentence", 200).map(str::to_owned);
    fields.finish(
        "a command",
        &[("working_directory", "directory"), ("cwd", "directory"), ("time_limit", "timeout"), ("command", "argv")],
    );
    Some(Command {
        argv: argv.filter(|_| is_good)?,
        directory,
        timeout,
        args: takes_args,
        stdin: takes_stdin,
        sentence,
    })
}
