//! `service`: the set kept up by the machine, from when it starts to when it stops.
//!
//! Installing writes one file, tells the service manager, and takes back what it wrote when that refuses. A file that
//! a person wrote is left alone. Which files there may be is `ordinaut_store::embedded`'s to know: chats look at them
//! before they warn that nothing starts the set again.

mod manager;
mod offer;
mod unit;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use ordinaut_store::embedded::{self, ServiceManager, ServiceScope, ServiceUnit};
use serde_json::json;

use crate::{
    config::Config,
    failure::{Exit, Failure},
    out::{Out, note},
};

pub(crate) use offer::offer;

/// The executor's drain, and the servers' after it.
const STOP_LIMIT: Duration = Duration::from_secs(90);

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Have the machine start Ordinaut, now and from now on
    Install(Install),
    /// Have it do so no longer, and stop it
    Uninstall(Whose),
    /// Say whether the machine keeps Ordinaut up
    Status(Whose),
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Only print the file that would be written
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Whose {
    /// As root: a service of root's own session instead of the machine's
    #[arg(long)]
    user: bool,
}

pub(crate) async fn service(config: &Config, verb: &Service, out: Out) -> Result<(), Failure> {
    match verb {
        Service::Install(options) => {
            let unit = unit_of(config, options.whose)?;
            let text = unit::text(&unit, &config.ordinaut, &config.layout.variables())
                .map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
            if options.print {
                return print(&unit, &text, out);
            }
            install(config, &unit, &text, out).await
        }
        Service::Uninstall(whose) => uninstall(&unit_of(config, *whose)?, out).await,
        Service::Status(whose) => status(config, &unit_of(config, *whose)?, out).await,
    }
}

fn unit_of(config: &Config, Whose { user }: Whose) -> Result<ServiceUnit, Failure> {
    if nix::unistd::geteuid().is_root() && !user {
        return Ok(config.units.system.clone());
    }
    config.units.user.clone().ok_or_else(|| {
        Failure::new(Exit::Missing, "this user has no home to keep a service in").mend("set HOME to a directory")
    })
}

fn print(unit: &ServiceUnit, text: &str, out: Out) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(&json!({ "file": unit.file, "text": text }));
    }
    note(format!("ordinaut: this would be written to {}", unit.file.display()));
    out.line(text.trim_end())
}

async fn install(config: &Config, unit: &ServiceUnit, text: &str, out: Out) -> Result<(), Failure> {
    if config.database_url.is_some() {
        return Err(Failure::new(
            Exit::Refused,
            "DATABASE_URL is set: the service is for the set that Ordinaut starts itself",
        )
        .mend("unset it; or have your service manager run `ordinaut-executor` and `ordinaut-mcp http`"));
    }
    for program in ["ordinaut-mcp", "ordinaut-executor"] {
        config.installed(program)?;
    }
    let before = ours(&unit.file)?;
    manager::check(unit).await?;
    let is_new = before.as_deref() != Some(text);
    if !is_new && unit.is_enabled() && manager::state(unit).await? == "active" {
        return installed(unit, false, out);
    }
    let stopped = stop_running(config).await?;
    write(&unit.file, text)?;
    if let Err(refusal) = manager::enable(unit).await {
        let why = Failure::from(refusal);
        return Err(take_back(unit, before.as_deref(), stopped).await.unwrap_or(why));
    }
    installed(unit, is_new, out)
}

/// Stops the set that a chat or a command started: from here on the service supervises it.
async fn stop_running(config: &Config) -> Result<bool, Failure> {
    if embedded::current(&config.layout).is_none() {
        return Ok(false);
    }
    note("ordinaut: the set that runs is handed over to the service; runs in hand are finished or given back first …");
    Ok(embedded::stop(&config.layout, STOP_LIMIT).await?)
}

/// Leaves things as they were before an installation that failed; what could not be undone is the answer.
async fn take_back(unit: &ServiceUnit, before: Option<&str>, stopped: bool) -> Option<Failure> {
    // Each as far as it goes: the manager has just shown that it does not do everything it is asked.
    let _ = manager::disable(unit).await;
    let undone = match before {
        Some(before) => write(&unit.file, before),
        None => remove(&unit.file).and_then(|()| unit.remove_link().map_err(|error| io("disable", &unit.file, &error))),
    };
    let _ = manager::forget(unit).await;
    if stopped {
        note("ordinaut: the set that ran is stopped; the next command or chat that needs it starts it");
    }
    undone.err()
}

fn installed(unit: &ServiceUnit, is_new: bool, out: Out) -> Result<(), Failure> {
    let lingers = !needs_linger(unit) || manager::lingers();
    if out.is_json() {
        return out.json(&json!({ "file": unit.file, "changed": is_new, "lingers": lingers }));
    }
    if is_new {
        out.line(format!("wrote {}", unit.file.display()))?;
        out.line("enabled and started: Ordinaut is up now and starts by itself from now on")?;
    } else {
        out.line(format!("{} was there already; Ordinaut is up and starts by itself", unit.file.display()))?;
    }
    if lingers {
        return Ok(());
    }
    out.line("It runs while you are logged in. To have it run from the machine's start: `loginctl enable-linger`")
}

fn needs_linger(unit: &ServiceUnit) -> bool {
    unit.manager == ServiceManager::Systemd && unit.scope == ServiceScope::User
}

async fn uninstall(unit: &ServiceUnit, out: Out) -> Result<(), Failure> {
    let there = ours(&unit.file)?.is_some();
    if there {
        match manager::check(unit).await {
            Ok(()) => manager::disable(unit).await?,
            Err(_not_running) => note("ordinaut: no service manager runs here; only the files are removed"),
        }
        unit.remove_link().map_err(|error| io("disable", &unit.file, &error))?;
        remove(&unit.file)?;
        if manager::check(unit).await.is_ok() {
            manager::forget(unit).await?;
        }
    }
    if out.is_json() {
        return out.json(&json!({ "file": unit.file, "removed": there }));
    }
    out.line(if there {
        format!("stopped, disabled, and {} is removed; tasks and history stay", unit.file.display())
    } else {
        format!("nothing was installed ({} is not there)", unit.file.display())
    })
}

async fn status(config: &Config, unit: &ServiceUnit, out: Out) -> Result<(), Failure> {
    let state = match manager::check(unit).await {
        Ok(()) => manager::state(unit).await?,
        Err(_) => "unknown: no service manager runs here".to_owned(),
    };
    let (there, enabled, keeps) = (unit.file.is_file(), unit.is_enabled(), unit.keeps(&config.layout));
    if out.is_json() {
        return out.json(&json!({
            "file": unit.file, "installed": there, "enabled": enabled, "keeps_this_set": keeps, "state": state,
        }));
    }
    if !there {
        return out.line("not installed; `ordinaut service install` does that");
    }
    out.line(format!("file      {}", unit.file.display()))?;
    out.line(format!("enabled   {}", if enabled { "yes" } else { "no: `ordinaut service install` mends it" }))?;
    out.line(format!("state     {state}"))?;
    if keeps || !enabled {
        return Ok(());
    }
    out.line(format!("It keeps another set than the one in {}.", config.layout.data_dir.display()))
}

/// What the file says; `None` when there is none.
///
/// # Errors
/// A person wrote it, so that it is theirs.
fn ours(file: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) if text.contains(unit::MARK) => Ok(Some(text)),
        Ok(_) => Err(Failure::new(
            Exit::Refused,
            format!("{} was not written by Ordinaut; it is left as it is", file.display()),
        )
        .mend("move it away, and do this again")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", file, &error)),
    }
}

/// Replaces the file: a service manager never sees half of it.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let new = file.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, file)
    };
    write().map_err(|error| io("write", file, &error))
}

fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", file, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn io(doing: &str, file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("could not {doing} {}: {error}", file.display()))
}
