//! The daemon: brings its services up, keeps them all, and takes them down in order.
//!
//! Two tokens. `drain`: take nothing new, finish what is in hand. `abort`: give back what is in hand. A service that
//! ends early ends the daemon: a half-working executor helps nobody, and whoever supervises it starts another.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use ordinaut_schema::{
    id::{EventId, Shard},
    limits::Limits,
};
use ordinaut_store::{
    Settings, Store, migrate,
    retention::Retention,
    secrets::{KeySource, SecretVault},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    actions::{
        ActionRegistry,
        approval::RequestApproval,
        event::EventPublish,
        http::{
            HttpAction, HttpLimits,
            guard::{Guard, SystemResolver},
        },
        inbox::InboxPost,
        llm::LlmGenerate,
        mcp::{McpSettings, McpTools},
        notify::{Desktop, NotifySend},
        shell::ShellExec,
        task::RunTask,
        wait::Wait,
    },
    clock::DatabaseClock,
    config::{Config, Executor, Hidden},
    escalation,
    events::{publisher, subscriber},
    health, hints, operator,
    pipeline::Surroundings,
    progress::Progress,
    recovery,
    revisions::Revisions,
    scheduler,
    telemetry::Exposition,
    tools, worker,
};

/// How long start-up waits for a database that does not answer yet.
const START_LIMIT: Duration = Duration::from_mins(1);
const DEFAULT_LISTEN: &str = "127.0.0.1:7448";

/// What the environment says beyond [`Config`].
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Where the operator's files are, unless named.
    pub config_dir: Option<PathBuf>,
    /// `ordinaut.toml`, read again while the executor runs.
    pub config_file: Option<PathBuf>,
    /// What MCP servers and commands may see of the environment.
    pub environment: BTreeMap<String, OsString>,
    /// Of this machine, for people.
    pub host: String,
    pub desktop: Desktop,
}

/// Runs until SIGTERM or SIGINT, or until a service fails.
pub async fn run(config: Config, machine: Machine, exposition: Exposition) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let asked = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run_until(asked, config, machine, exposition).await
}

/// As [`run`], until `asked`.
pub async fn run_until(
    asked: impl Future<Output = ()>,
    config: Config,
    machine: Machine,
    exposition: Exposition,
) -> anyhow::Result<()> {
    tokio::pin!(asked);
    let store = tokio::select! {
        store = connect(config.clone()) => store?,
        () = &mut asked => return Ok(()),
    };
    let executor = config.executor.clone();
    let id = EventId::new().uuid();
    let recovery = recovery_settings(&executor, id, &machine);
    let mut crew = Daemon::new(store);
    crew.start(config.clone(), machine, recovery.clone(), exposition).await?;
    info!(executor.id = %id, "executor {} is at work as {id}", env!("CARGO_PKG_VERSION"));

    crew.stand(asked, &executor, &recovery).await
}

fn early_end(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("a service stopped on its own"),
        Ok(Err(error)) => error.context("a service failed"),
        Err(error) => anyhow::Error::from(error).context("a service broke down"),
    }
}

async fn join_all(services: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut first = Ok(());
    while let Some(ended) = services.join_next().await {
        let ended = ended.context("a service broke down").flatten();
        first = first.and(ended);
    }
    first
}

/// Migrates and connects; a database that is still starting is waited for.
async fn connect(config: Config) -> anyhow::Result<Store> {
    let url = config.database_url.as_ref().context("DATABASE_URL is not set")?.as_str().to_owned();
    let begun = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let settings = Settings {
            deadline: config.executor.database_timeout,
            ..Settings::of_executor(url.clone(), config.executor.database_connections)
        };
        let opened = async {
            migrate_apart(url.clone()).await?;
            Store::connect(settings).await
        };
        match opened.await {
            Ok(store) => return Ok(store),
            Err(error) if error.is_retryable() && begun.elapsed() < START_LIMIT => {
                let error = anyhow::Error::from(error);
                warn!("cannot use the database yet: {error:#}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            Err(error) => return Err(anyhow::Error::from(error).context("open the database")),
        }
    }
}

/// On a thread of its own: what the migrator returns is not known to be `Send`.
async fn migrate_apart(url: String) -> Result<(), ordinaut_store::StoreError> {
    let runtime = tokio::runtime::Handle::current();
    match tokio::task::spawn_blocking(move || runtime.block_on(migrate(&url))).await {
        Ok(migrated) => migrated,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn recovery_settings(executor: &Executor, id: Uuid, machine: &Machine) -> recovery::Settings {
    recovery::Settings {
        executor: id,
        name: format!("{}:{}", machine.host, std::process::id()),
        lease: executor.lease,
        max_crashes: executor.max_crashes,
        kept: Retention {
            history: executor.history_kept,
            outbox: executor.outbox_kept,
            outbox_bytes: executor.outbox_bytes,
        },
    }
}

struct Daemon {
    services: JoinSet<anyhow::Result<()>>,
    supports: JoinSet<anyhow::Result<()>>,
    store: Store,
    drain: CancellationToken,
    abort: CancellationToken,
    /// For what must outlive the attempts in hand: health, and the servers that their steps call.
    stop: CancellationToken,
}

impl Daemon {
    fn new(store: Store) -> Self {
        Self {
            services: JoinSet::new(),
            supports: JoinSet::new(),
            store,
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            stop: CancellationToken::new(),
        }
    }

    async fn start(
        &mut self,
        config: Config,
        machine: Machine,
        recovery: recovery::Settings,
        exposition: Exposition,
    ) -> anyhow::Result<()> {
        let store = self.store.clone();
        let clock = DatabaseClock::new(store.now().await.context("read the database's clock")?);
        // Before anything is written: PostgreSQL refuses a row that was on its way to the default partition while the
        // one it belongs to was made.
        if let Err(error) = store.make_partitions().await {
            warn!(error = &error as &dyn std::error::Error, "could not make partitions; trying again later");
        }
        let revisions = Arc::new(Revisions::default());
        let (wake, hinted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let listener = bind(config.executor.listen).await?;
        info!("health and metrics on http://{}", listener.local_addr()?);

        let vault = SecretVault::new(store.clone(), key_source(&config, &machine));
        let guard = Guard::new(config.allowances().map_err(|bad| anyhow!(bad.join("\n")))?, SystemResolver);
        let wait = Arc::new(Wait::new(store.clone(), clock.clone()));
        let (file, tables) = (machine.config_file.clone(), config.operator.clone());
        let (watch, standing) = operator::Watch::new(file, tables, store.clone());
        let servers = mcp_settings(&config, &machine, &vault, &standing);
        let tools = Arc::new(McpTools::new(servers, store.clone(), recovery.executor));
        tools.refresh().await.context("read what is accepted of tools")?;
        let limits = Limits::DEFAULT;
        let llm = LlmGenerate::new(standing.clone(), store.clone(), vault.clone(), &limits);
        let shell = ShellExec::new(standing.clone(), machine.environment.clone(), &limits);
        let notify = NotifySend::new(standing.clone(), store.clone(), vault.clone(), machine.desktop.clone(), &limits);
        let notify = Arc::new(notify);
        let approval = RequestApproval::new(store.clone(), clock.clone(), notify.clone(), config.public_url.clone());
        let actions = HttpAction::new(guard, HttpLimits::default())
            .with_secrets(vault)
            .register(ActionRegistry::default())
            .with("llm.generate", Arc::new(llm))
            .with("notify.send", notify.clone())
            .with("shell.exec", Arc::new(shell))
            .with("inbox.post", Arc::new(InboxPost::new(store.clone())))
            .with("event.publish", Arc::new(EventPublish::new(store.clone())))
            .with("wait.for", wait.clone())
            .with("wait.until", wait)
            .with("approval.request", Arc::new(approval))
            .with("task.run", Arc::new(RunTask::new(store.clone(), clock.clone())))
            .with_tools(tools.clone());
        let progress = self.start_events(&config, recovery.executor)?;
        let around = Surroundings { actions, limits, clock: clock.clone(), progress };
        let settings = worker::Settings {
            executor: recovery.executor,
            permits: config.executor.permits,
            lease: recovery.lease,
            max_crashes: recovery.max_crashes,
        };

        let (drain, abort, stop) = (self.drain.clone(), self.abort.clone(), self.stop.clone());
        self.supports.spawn(health::serve(listener, store.clone(), exposition, drain.clone(), stop.clone()));
        self.supports.spawn(watch.serve(stop.clone()));
        self.supports.spawn(tools::serve(tools, standing, stop));
        self.services.spawn(worker::serve(
            store.clone(),
            around,
            revisions.clone(),
            settings,
            wake.clone(),
            drain.clone(),
            abort,
        ));
        self.services.spawn(scheduler::serve(
            store.clone(),
            clock,
            revisions,
            wake.clone(),
            hinted.clone(),
            drain.clone(),
        ));
        self.services.spawn(hints::serve(store.clone(), hinted, wake.clone(), drain.clone()));
        self.services.spawn(escalation::serve(store.clone(), notify, drain.clone()));
        self.services.spawn(recovery::serve(store, recovery, wake, drain));
        Ok(())
    }

    /// Stands until `asked`, or until one of the services ends; takes all of them down, in order.
    async fn stand(
        &mut self,
        asked: impl Future<Output = ()>,
        executor: &Executor,
        recovery: &recovery::Settings,
    ) -> anyhow::Result<()> {
        let cause = tokio::select! {
            () = asked => Ok(()),
            Some(ended) = self.services.join_next() => Err(early_end(ended)),
            Some(ended) = self.supports.join_next() => Err(early_end(ended)),
        };
        info!("draining");
        self.drain.cancel();
        let stopped = match timeout(executor.drain_timeout, join_all(&mut self.services)).await {
            Ok(stopped) => stopped,
            Err(_elapsed) => {
                warn!("drain timed out; giving back the attempts in hand");
                self.abort.cancel();
                timeout(executor.abort_timeout, join_all(&mut self.services)).await.context("abort timed out")?
            }
        };
        if let Err(error) = recovery::report(&self.store, recovery, "stopped").await {
            warn!(error = &error as &dyn std::error::Error, "could not say that this executor stopped");
        }
        self.abort.cancel();
        self.stop.cancel();
        let ended =
            timeout(executor.abort_timeout, join_all(&mut self.supports)).await.context("servers did not end")?;
        self.store.close().await;
        info!("stopped");
        cause.and(stopped).and(ended)
    }

    fn start_events(&mut self, config: &Config, executor: Uuid) -> anyhow::Result<Progress> {
        let Some(url) = &config.redis_url else {
            info!("REDIS_URL is not set: events stay in the outbox");
            return Ok(Progress::silent());
        };
        let client = redis::Client::open(url.as_str()).context("read REDIS_URL")?;
        let settings = publisher::Settings { kept: config.executor.events_kept, shard: Shard::default() };
        let (progress, told) = Progress::channel();
        let (store, drain) = (&self.store, &self.drain);
        self.services.spawn(publisher::serve(store.clone(), client.clone(), settings, drain.clone()));
        self.services.spawn(publisher::serve_progress(client.clone(), settings, told, drain.clone()));
        self.services.spawn(subscriber::serve(store.clone(), client, executor.to_string(), drain.clone()));
        Ok(progress)
    }
}

/// Nothing is made here: where there is no key, calls with secrets say so.
fn key_source(config: &Config, machine: &Machine) -> KeySource {
    let variable = config.secret_key.as_ref().map(Hidden::as_str);
    let directory = machine.config_dir.as_deref().unwrap_or(Path::new("."));
    KeySource::choose(variable, config.secret_key_file.as_deref(), directory)
}

fn mcp_settings(config: &Config, machine: &Machine, vault: &SecretVault, standing: &operator::Standing) -> McpSettings {
    let usual = machine.config_dir.as_ref().map(|directory| directory.join("mcp-servers.json"));
    McpSettings {
        file: config.executor.mcp_servers.clone().or(usual),
        environment: machine.environment.clone(),
        secrets: Some(vault.clone()),
        standing: Some(standing.clone()),
        ..McpSettings::default()
    }
}

/// The configured address, or the usual one; any free port where that is another executor's.
async fn bind(configured: Option<std::net::SocketAddr>) -> anyhow::Result<TcpListener> {
    if let Some(address) = configured {
        return TcpListener::bind(address).await.with_context(|| format!("listen on {address}"));
    }
    match TcpListener::bind(DEFAULT_LISTEN).await {
        Ok(listener) => Ok(listener),
        Err(_taken) => TcpListener::bind("127.0.0.1:0").await.context("listen on a free port"),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use ordinaut_store::testing::Fixture;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_broke_down_ends_the_daemon_and_the_other_services_drain() {
        let (fixture, _database) = Fixture::fresh().await;
        let executor = Executor::default();
        let recovery = recovery_settings(&executor, Uuid::now_v7(), &Machine::default());
        let mut crew = Daemon::new(fixture.executor.clone());
        let drain = crew.drain.clone();
        crew.services.spawn(async move {
            drain.cancelled().await;
            Ok(())
        });
        crew.services.spawn(async { Err(anyhow!("a service of the worker broke down")) });
        let ended = timeout(Duration::from_mins(1), crew.stand(pending(), &executor, &recovery)).await;
        let ended = ended.expect("it takes itself down").expect_err("and says why");
        assert!(format!("{ended:#}").contains("of the worker broke down"), "{ended:#}");
    }
}
