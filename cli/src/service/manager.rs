//! The service manager, asked by its own program: `systemctl`, or `launchctl` on macOS.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use ordinaut_store::embedded::{ServiceManager, ServiceScope, ServiceUnit};
use tokio::process::Command;
use tokio::time::timeout;

use crate::failure::{Exit, Failure};

/// Starting waits for the program to be executed and for nothing else.
const LIMIT: Duration = Duration::from_mins(2);

/// Why the service manager did not do what it was asked.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It does not run here; in containers it hardly ever does.
    NotRunning(String),
    Refused {
        command: String,
        said: String,
    },
}

impl Refusal {
    fn new(command: &str, said: impl Into<String>) -> Self {
        Self::Refused { command: command.to_owned(), said: said.into() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotRunning(why) => Failure::new(
                Exit::Missing,
                format!("nothing here starts services ({why}), as in most containers; nothing was changed"),
            )
            .mend(
                "let whatever starts this machine's programs run `ordinaut up --no-example`; \
                 `ordinaut service install --print` shows what a service manager would be told",
            ),
            Refusal::Refused { command, said } => Failure::new(Exit::Failed, format!("`{command}` failed: {said}")),
        }
    }
}

/// Whether services can be started here at all.
pub(super) async fn check(unit: &ServiceUnit) -> Result<(), Refusal> {
    match unit.manager {
        ServiceManager::Launchd => Ok(()),
        ServiceManager::Systemd => {
            let asked = ask(unit, &["is-system-running"]).await.map_err(|refusal| match refusal {
                Refusal::Refused { command, said } => Refusal::NotRunning(format!("`{command}`: {said}")),
                refusal @ Refusal::NotRunning(_) => refusal,
            })?;
            // Its exit code is not 0 for `degraded` either, where one service of the many has failed.
            let state = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
            match state.as_str() {
                "running" | "degraded" | "starting" | "initializing" | "maintenance" => Ok(()),
                _ => {
                    let said = if state.is_empty() { said(&asked) } else { format!("it is {state}") };
                    Err(Refusal::NotRunning(format!("systemd does not run: {said}")))
                }
            }
        }
    }
}

/// Enables and starts; whoever calls has written the file.
pub(super) async fn enable(unit: &ServiceUnit) -> Result<(), Refusal> {
    match unit.manager {
        ServiceManager::Systemd => {
            must(unit, &["daemon-reload"]).await?;
            must(unit, &["enable", ServiceUnit::NAME]).await?;
            // Anew, so that a changed file counts.
            must(unit, &["restart", ServiceUnit::NAME]).await
        }
        ServiceManager::Launchd => {
            // Not loaded yet, as a rule.
            let _ = ask(unit, &["bootout", &format!("{}/{}", domain(unit), ServiceUnit::LABEL)]).await;
            must(unit, &["bootstrap", &domain(unit), &path(&unit.file)]).await
        }
    }
}

/// Stops and disables; the file is still there.
pub(super) async fn disable(unit: &ServiceUnit) -> Result<(), Refusal> {
    match unit.manager {
        ServiceManager::Systemd => must(unit, &["disable", "--now", ServiceUnit::NAME]).await,
        ServiceManager::Launchd => must(unit, &["bootout", &format!("{}/{}", domain(unit), ServiceUnit::LABEL)]).await,
    }
}

/// Lets the manager forget a file that is gone.
pub(super) async fn forget(unit: &ServiceUnit) -> Result<(), Refusal> {
    match unit.manager {
        ServiceManager::Systemd => must(unit, &["daemon-reload"]).await,
        ServiceManager::Launchd => Ok(()),
    }
}

/// What the manager says of it, in one word.
pub(super) async fn state(unit: &ServiceUnit) -> Result<String, Refusal> {
    let asked = match unit.manager {
        ServiceManager::Systemd => ask(unit, &["is-active", ServiceUnit::NAME]).await?,
        ServiceManager::Launchd => {
            let asked = ask(unit, &["print", &format!("{}/{}", domain(unit), ServiceUnit::LABEL)]).await?;
            return Ok(if asked.status.success() { "active" } else { "inactive" }.to_owned());
        }
    };
    let state = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    Ok(if state.is_empty() { said(&asked) } else { state })
}

/// Whether a person's services go on while they are not logged in.
pub(super) fn lingers() -> bool {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user.name).exists())
}

fn domain(unit: &ServiceUnit) -> String {
    match unit.scope {
        ServiceScope::User => format!("gui/{}", nix::unistd::geteuid()),
        ServiceScope::System => "system".to_owned(),
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

async fn must(unit: &ServiceUnit, arguments: &[&str]) -> Result<(), Refusal> {
    let asked = ask(unit, arguments).await?;
    if asked.status.success() { Ok(()) } else { Err(Refusal::new(&shown(unit, arguments), said(&asked))) }
}

async fn ask(unit: &ServiceUnit, arguments: &[&str]) -> Result<Output, Refusal> {
    let (program, scope) = invocation(unit);
    let mut command = Command::new(program);
    command.args(scope).args(arguments).kill_on_drop(true);
    let shown = shown(unit, arguments);
    match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Refusal::NotRunning(format!("there is no `{program}`")))
        }
        Ok(Err(error)) => Err(Refusal::new(&shown, error.to_string())),
        Err(_elapsed) => Err(Refusal::new(&shown, format!("no answer within {}s", LIMIT.as_secs()))),
    }
}

fn invocation(unit: &ServiceUnit) -> (&'static str, Option<&'static str>) {
    match (unit.manager, unit.scope) {
        (ServiceManager::Systemd, ServiceScope::User) => ("systemctl", Some("--user")),
        (ServiceManager::Systemd, ServiceScope::System) => ("systemctl", None),
        (ServiceManager::Launchd, _) => ("launchctl", None),
    }
}

fn shown(unit: &ServiceUnit, arguments: &[&str]) -> String {
    let (program, scope) = invocation(unit);
    let words: Vec<_> = [program].into_iter().chain(scope).chain(arguments.iter().copied()).collect();
    words.join(" ")
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if text.is_empty() { output.status.to_string() } else { text }
}
