//! This machine's own desktop: `notify-send`, or `osascript` on macOS. Where there is none, there is none.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ordinaut_schema::run::{ErrorKind, StepFailure};
use tokio::process::Command;

use super::message::{Level, Measure, Message, cut};

const LIMIT: Duration = Duration::from_secs(5);
const MOST_TITLE: usize = 200;
const MOST_TEXT: usize = 1_000;

/// The text comes as an argument, never as part of the script.
const SCRIPT: [&str; 3] =
    ["on run argv", "display notification (item 2 of argv) with title (item 1 of argv)", "end run"];

/// What the programs need to find the session they show in.
const PASSED_ON: [&str; 7] =
    ["PATH", "HOME", "LANG", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
const BUS: &str = "DBUS_SESSION_BUS_ADDRESS";

/// How a desktop is told. By default there is none.
#[derive(Debug, Clone, Default)]
pub struct Desktop {
    program: Option<Program>,
    environment: Vec<(OsString, OsString)>,
}

#[derive(Debug, Clone)]
enum Program {
    NotifySend(PathBuf),
    OsaScript(PathBuf),
}

impl Desktop {
    /// Looks for a desktop: a program on PATH, and a session that it can reach. `uid` names the session of a service,
    /// which is not told of it by the environment.
    pub fn find(lookup: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let on_path = |name: &str| {
            let directories = lookup("PATH")?;
            std::env::split_paths(&directories).map(|directory| directory.join(name)).find(|program| program.is_file())
        };
        let mut environment: Vec<(OsString, OsString)> =
            PASSED_ON.iter().filter_map(|name| Some(((*name).into(), lookup(name)?))).collect();
        let program = if let Some(program) = on_path("notify-send") {
            let usual = format!("/run/user/{uid}/bus");
            if lookup(BUS).is_none() && Path::new(&usual).exists() {
                environment.push((BUS.into(), format!("unix:path={usual}").into()));
            }
            let has_session = environment.iter().any(|(name, _)| name == BUS);
            has_session.then_some(Program::NotifySend(program))
        } else {
            on_path("osascript").map(Program::OsaScript)
        };
        Self { program, environment }
    }

    /// Shows a message.
    pub(super) async fn show(&self, message: &Message) -> Result<(), StepFailure> {
        let title = cut(message.heading().as_deref().unwrap_or("Ordinaut"), MOST_TITLE, Measure::Chars);
        let text: String = message.text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
        let text = cut(&text, MOST_TEXT, Measure::Chars);
        let mut command = match &self.program {
            None => return Err(no_desktop("this executor has no desktop to show it on")),
            Some(Program::NotifySend(program)) => {
                let urgency = if message.level == Level::Error { "critical" } else { "normal" };
                let mut command = Command::new(program);
                command.args(["--app-name=Ordinaut", &format!("--urgency={urgency}"), "--"]);
                command.args([title, escaped(&text)]);
                command
            }
            Some(Program::OsaScript(program)) => {
                let mut command = Command::new(program);
                command.args(SCRIPT.iter().flat_map(|line| ["-e", line])).args([title, text]);
                command
            }
        };
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(LIMIT, command.status()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(no_desktop(&format!("the desktop did not take it ({status})"))),
            Ok(Err(error)) => Err(no_desktop(&format!("the desktop could not be told: {error}"))),
            Err(_elapsed) => Err(no_desktop("the desktop did not answer")),
        }
    }
}

/// Asking again soon would find the same.
fn no_desktop(why: &str) -> StepFailure {
    StepFailure::new(ErrorKind::ClientError, why)
}

/// Desktops read a little HTML in the text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
