//! A connection to where the tasks are, on behalf of one agent.
//!
//! With `DATABASE_URL` that is the operator's database; otherwise the embedded set, which is started in the
//! background when it is not running, and outlives the command. The command line works in the executors' role: it is
//! the operator's, who may act for any agent.

use std::time::Duration;

use ordinaut_schema::{
    action::Catalogue,
    limits::Limits,
    task::{Acceptance, ZoneSource},
    time::Zone,
};
use ordinaut_store::{
    Caller, Role, Settings, Store, StoreError,
    embedded::{self, EnsureRunning, Phase},
    tasks::{TaskFilter, TaskRecord},
};

use crate::{
    config::Config,
    failure::{Exit, Failure},
    out::note,
    times::machine_zone,
};

/// How long a command waits for the embedded set. The first start makes a database.
const START_LIMIT: Duration = Duration::from_mins(2);

/// Where the tasks are, and for whom.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) store: Store,
    pub(crate) caller: Caller,
    /// What times are shown in.
    pub(crate) zone: Zone,
    /// What a definition without `timezone` is read in, and why.
    default_zone: Option<(Zone, ZoneSource)>,
}

impl Session {
    /// Connects, starting the embedded set if that is what there is.
    pub(crate) async fn open(config: &Config, agent: Option<&str>) -> Result<Self, Failure> {
        let url = match &config.database_url {
            Some(url) => url.clone(),
            None => embedded_url(config).await?,
        };
        Self::at(config, &url, agent).await
    }

    /// Connects if there is something to connect to; starts nothing.
    pub(crate) async fn open_running(config: &Config, agent: Option<&str>) -> Result<Self, Failure> {
        let url = match &config.database_url {
            Some(url) => url.clone(),
            None => running_url(config)?,
        };
        Self::at(config, &url, agent).await
    }

    /// Connects to the database at `url`, setting it up if nothing of Ordinaut's has seen it yet.
    pub(crate) async fn at(config: &Config, url: &str, agent: Option<&str>) -> Result<Self, Failure> {
        Self::over(config, connect(url).await?, agent).await
    }

    /// Connects to the database at `url` as it is.
    pub(crate) async fn look(config: &Config, url: &str) -> Result<Self, Failure> {
        let store = Store::connect(Settings::new(url, Role::Executor)).await?;
        Self::over(config, store, None).await
    }

    async fn over(config: &Config, store: Store, agent: Option<&str>) -> Result<Self, Failure> {
        let mut caller = Caller::local("cli");
        if let Some(name) = agent {
            // The revoked ones too: their tasks stay, and somebody has to be able to look at them.
            let agents = store.list_agents().await?;
            let found = agents.iter().find(|agent| agent.name == name);
            caller.agent = found.ok_or_else(|| StoreError::AgentNotFound(name.to_owned()))?.id;
        }
        let default_zone = default_zone(config, &store, &caller).await?;
        let zone = machine_zone().or_else(|| config.timezone.clone());
        let zone = zone.or_else(|| Some(default_zone.as_ref()?.0.clone())).unwrap_or_else(Zone::utc);
        Ok(Self { store, caller, zone, default_zone })
    }

    /// Every task there is of these, page by page.
    pub(crate) async fn list_tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>, Failure> {
        const PAGE: u32 = 500;
        let mut tasks: Vec<TaskRecord> = Vec::new();
        loop {
            let page = self.store.list_tasks(&self.caller, filter, tasks.last().map(|task| task.id), PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            tasks.extend(page);
            if is_last {
                return Ok(tasks);
            }
        }
    }

    /// What definitions are judged against.
    pub(crate) async fn terms(&self) -> Result<Terms<'_>, Failure> {
        let catalogue = self.store.catalogue(&self.caller).await?;
        Ok(Terms { now: self.store.now().await?, catalogue, default_zone: self.default_zone.as_ref() })
    }
}

/// What definitions are judged against, at one instant.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) now: jiff::Timestamp,
    catalogue: Catalogue,
    default_zone: Option<&'a (Zone, ZoneSource)>,
}

impl Terms<'_> {
    pub(crate) fn acceptance(&self) -> Acceptance<'_> {
        Acceptance {
            now: self.now,
            default_zone: self.default_zone.map(|(zone, source)| (zone, *source)),
            catalogue: &self.catalogue,
            limits: &Limits::DEFAULT,
        }
    }
}

/// The agent's zone (the local agent's is the machine's), else the configured one.
async fn default_zone(config: &Config, store: &Store, caller: &Caller) -> Result<Option<(Zone, ZoneSource)>, Failure> {
    let agent = store.find_agent(caller.agent).await?;
    let named = agent.timezone.as_deref().and_then(Zone::find).map(|zone| (zone, ZoneSource::Agent));
    let machine = (caller.agent == Caller::LOCAL_AGENT).then(machine_zone).flatten();
    Ok(named
        .or_else(|| Some((machine?, ZoneSource::Machine)))
        .or_else(|| Some((config.timezone.clone()?, ZoneSource::Configuration))))
}

/// Connects; a database that nothing of Ordinaut's has seen yet is set up first.
async fn connect(url: &str) -> Result<Store, Failure> {
    match Store::connect(Settings::new(url, Role::Executor)).await {
        Err(error @ StoreError::Database { .. }) if !error.is_retryable() => {
            ordinaut_store::migrate(url).await?;
            Ok(Store::connect(Settings::new(url, Role::Executor)).await?)
        }
        outcome => Ok(outcome?),
    }
}

async fn embedded_url(config: &Config) -> Result<String, Failure> {
    let want = EnsureRunning {
        layout: &config.layout,
        ordinaut: &config.ordinaut,
        version: env!("CARGO_PKG_VERSION"),
        arguments: Vec::new(),
        limit: START_LIMIT,
    };
    let mut was_told = false;
    let state = embedded::ensure_running(&want, |state| {
        if state.phase != Phase::Running {
            note(format!("ordinaut: {} …", state.phase));
            was_told = true;
        } else if was_told {
            note("ordinaut: running; it goes on in the background (`ordinaut down` stops it)");
        }
    })
    .await?;
    state.database_url.ok_or_else(no_database)
}

/// The database of the set that runs here.
pub(crate) fn running_url(config: &Config) -> Result<String, Failure> {
    let state = embedded::current(&config.layout).ok_or_else(|| {
        Failure::new(Exit::NotRunning, "Ordinaut is not running here")
            .mend("`ordinaut up` starts it; so does any command that needs it, and the first chat")
    })?;
    if state.phase != Phase::Running {
        return Err(Failure::new(Exit::NotRunning, format!("Ordinaut is {}", state.phase)));
    }
    state.database_url.ok_or_else(no_database)
}

fn no_database() -> Failure {
    Failure::new(Exit::NotRunning, "the set that runs here does not say where its database is")
        .mend("stop it with `ordinaut down` and start it again")
}
