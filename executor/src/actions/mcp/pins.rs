//! Whether a tool is what was accepted of it: judged before every call, against Postgres.
//!
//! What a server says of a tool is read by models and decides what a repeat may do; a server that changes it does so
//! behind the operator's back. The first word of a tool is accepted as it is; any other is refused until a person
//! accepts it. What is accepted is kept here, at most a few seconds old, so that most calls ask nobody; before a call
//! is refused, Postgres is asked, so that an acceptance is in force at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use jiff::Timestamp;
use ordinaut_schema::{
    action::{Descriptor, Effect, accept_command},
    operator::Server,
    run::{ErrorKind, StepFailure},
};
use ordinaut_store::{
    Store, StoreError,
    catalog::{self, Pin},
};
use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use super::catalogue::SeenTool;
use crate::{actions::store_failure, operator::Standing};

/// What is accepted, and who is trusted.
pub(super) struct Pins {
    store: Store,
    /// In whose name reports are written.
    executor: Uuid,
    /// Of the operator's tables; without them nobody is trusted.
    standing: Option<Standing>,
    known: Mutex<BTreeMap<String, Pin>>,
}

impl Pins {
    pub(super) fn new(store: Store, executor: Uuid, standing: Option<Standing>) -> Self {
        Self { store, executor, standing, known: Mutex::default() }
    }

    /// Reads anew what is accepted.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        let pins = self.store.pins().await?;
        *self.lock() = pins;
        Ok(())
    }

    /// When each of these secrets was set last; one that is gone is left out.
    pub(super) async fn secrets_set_at(
        &self,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Timestamp>, StoreError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let secrets = self.store.list_secrets().await?.into_iter();
        Ok(secrets.filter(|it| names.contains(&it.name)).map(|it| (it.name, it.updated_at)).collect())
    }

    /// What a repeat does, by the accepted word of a server that the operator trusts.
    pub(super) fn effect(&self, server: &str, uses: &str) -> Option<Effect> {
        let pin = self.lock().get(uses).copied()?;
        self.server(server).trusted.then_some(pin.effect)
    }

    fn server(&self, name: &str) -> Server {
        let standing = self.standing.as_ref().map(|standing| standing.borrow());
        standing.and_then(|tables| tables.servers.get(name).copied()).unwrap_or_default()
    }

    /// Judges a tool as its server describes it right now; `listed` is all that the server has.
    ///
    /// # Errors
    /// `denied`, with the person's command, where that is not what is accepted.
    pub(super) async fn judge(&self, seen: &SeenTool, listed: &[SeenTool]) -> Result<(), StepFailure> {
        let name = seen.name();
        let is_accepted = |pin: Pin| pin.sha256 == seen.sha256;
        if self.lock().get(&name).copied().is_some_and(is_accepted) {
            return Ok(());
        }
        let mut pin = self.ask(&name).await?;
        if !pin.is_some_and(is_accepted) {
            // So that it is accepted if it was never seen, and is there to be looked at if it changed.
            self.report(&seen.server, Ok(listed.to_vec())).await.map_err(|error| store_failure(&error))?;
            pin = self.ask(&name).await?;
        }
        match pin {
            Some(pin) if is_accepted(pin) => Ok(()),
            Some(_) => {
                let command = accept_command(&seen.server, &seen.tool);
                let message = format!(
                    "`{name}` has changed since it was accepted, and was not called; a person looks at the change and \
                     accepts it with `{command}`"
                );
                Err(StepFailure::new(ErrorKind::Denied, message))
            }
            None => {
                let message = format!(
                    "`{name}` was not called: its server has shown more tools already than are kept, so that nobody \
                     can tell whether this one is what it was"
                );
                Err(StepFailure::new(ErrorKind::Denied, message))
            }
        }
    }

    async fn ask(&self, name: &str) -> Result<Option<Pin>, StepFailure> {
        let pin = self.store.pin(name).await.map_err(|error| store_failure(&error))?;
        if let Some(pin) = pin {
            self.lock().insert(name.to_owned(), pin);
        }
        Ok(pin)
    }

    /// Says which servers are configured, and which of them are trusted.
    pub(super) async fn configure(&self, names: impl IntoIterator<Item = String>) -> Result<(), StoreError> {
        let servers: BTreeMap<_, _> = names.into_iter().map(|name| (name.clone(), self.server(&name))).collect();
        self.store.set_servers(&servers).await
    }

    /// Writes what a server declares, or why it cannot be used; a change is warned of by whoever sees it first.
    pub(super) async fn report(&self, server: &str, seen: Result<Vec<SeenTool>, String>) -> Result<(), StoreError> {
        let seen = seen.map(|tools| tools.into_iter().map(described).collect());
        let changed = self.store.write_server(server, self.executor, seen).await?;
        for (tool, change) in changed {
            let command = accept_command(server, &tool);
            warn!(
                server,
                tool,
                "the tool `{server}.{tool}` has changed ({change}) and is not called until a person accepts that: {command}"
            );
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Pin>> {
        self.known.lock().expect("never poisoned: no panic while held")
    }
}

/// The effect is the server's own word, kept with the rest of it; whether it counts is judged where it is used.
fn described(tool: SeenTool) -> catalog::SeenTool {
    let effect = if tool.read_only || tool.idempotent { Effect::Idempotent } else { Effect::Once };
    let descriptor = Descriptor {
        name: tool.name(),
        sentence: tool.description,
        input_schema: tool.input_schema,
        example: json!({}),
        effect,
    };
    catalog::SeenTool { tool: tool.tool, descriptor, sha256: tool.sha256 }
}
