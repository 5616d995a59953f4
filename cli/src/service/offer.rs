//! The offer of a service to whoever has just connected a chat: without one, tasks run only until the machine restarts.

use std::io::{self, IsTerminal as _, Write as _};

use crate::{config::Config, failure::Failure, out::Out};

use super::{Install, Service, Whose, service, unit_of};

/// Says how the machine is made to keep Ordinaut up, and on a terminal asks whether it should. Silent when it does.
pub(crate) async fn offer(config: &Config, out: Out) -> Result<(), Failure> {
    let whose = Whose { user: false };
    if config.database_url.is_some() || unit_of(config, whose).is_ok_and(|unit| unit.keeps(&config.layout)) {
        return Ok(());
    }
    out.line("To have tasks run after a restart of this machine as well: ordinaut service install")?;
    if io::stdin().is_terminal() && io::stdout().is_terminal() && is_wanted() {
        return Box::pin(service(config, &Service::Install(Install { print: false, whose }), out)).await;
    }
    Ok(())
}

/// Whoever cannot be asked has not said yes.
fn is_wanted() -> bool {
    let mut answer = String::new();
    let mut stderr = io::stderr().lock();
    let asked = write!(stderr, "Do that now? [y/N] ").and_then(|()| stderr.flush());
    let answered = asked.and_then(|()| io::stdin().read_line(&mut answer));
    answered.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}
