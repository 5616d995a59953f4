//! A credential, asked of the person at the terminal without showing it, or read as a line of stdin. Never an argument:
//! those are in the shell's history and in every list of processes.

use std::io::{self, IsTerminal as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::failure::{Exit, Failure};

/// Asks for `what`; with a secret's name, a reference to it instead.
pub(crate) fn ask(what: &str, secret: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = secret {
        return Ok(format!("${{secrets.{name}}}"));
    }
    let _hidden = if io::stdin().is_terminal() {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{what}: ").and_then(|()| stderr.flush()).map_err(|error| unread(what, &error))?;
        Some(Hidden::begin().map_err(|error| unread(what, &error))?)
    } else {
        None
    };
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|error| unread(what, &error))?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Err(Failure::new(Exit::Refused, format!("{what}: nothing was given"))
            .mend("type it at the prompt, or give it as a line on stdin: … < file"));
    }
    Ok(line.to_owned())
}

fn unread(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what}: could not be read: {error}"))
}

/// The terminal does not show what is typed while this lives.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        hidden.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that went away needs nothing shown again.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}
