//! Supervises the embedded set: PostgreSQL, Redis, one executor and `ordinaut-mcp http`.
//!
//! One process per data directory, guarded by the set's lock: `ordinaut up` in the foreground, the service, or
//! `ordinaut supervise` that the first chat started. It starts what the set needs in order, watches it by looking,
//! starts again what ended, with backoff, and takes it down in the opposite order. It holds nothing that its death
//! would lose: after `kill -9` the next supervisor adopts the servers and stops the executor and the MCP server that
//! were left, by the processes named in the state.
//!
//! One loop looks at everything twice a second. A task per child would learn of an end sooner, but adopted servers
//! are nobody's children and have to be looked at anyway.
#![expect(clippy::disallowed_methods, reason = "the set's state is stamped before there is a database to ask")]

mod command;
mod services;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use ordinaut_store::embedded::{
    Durability, EmbeddedError, Layout, Phase, Postgres, Process, Redis, Session, SetLock, SetState, Site, trim_logs,
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use command::hidden_command;
use services::{Backoff, Service, free_address};

/// Where remote clients find MCP unless told otherwise.
pub(crate) const DEFAULT_MCP_PORT: u16 = 7447;
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// A server that lives and was silent for so many probes in a row is started anew: its socket may have been removed.
const SILENT_PROBES: u8 = 3;

/// How a set is to be supervised.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) programs: Programs,
    /// This program's version, by which a newer one knows that it should replace the set.
    pub(crate) version: String,
    /// Loopback port of `ordinaut-mcp http`; 0 takes a free one.
    pub(crate) mcp_port: u16,
    /// What the executor and the MCP server get beyond the layout and the two URLs.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// How long the executor may take to finish what it has in hand.
    pub(crate) drain_limit: Duration,
}

/// The programs of one installation.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) ordinaut: PathBuf,
    pub(crate) executor: PathBuf,
    pub(crate) mcp: PathBuf,
}

impl Programs {
    /// The siblings of `ordinaut`.
    pub(crate) fn beside(ordinaut: &Path) -> Self {
        Self {
            ordinaut: ordinaut.into(),
            executor: ordinaut.with_file_name("ordinaut-executor"),
            mcp: ordinaut.with_file_name("ordinaut-mcp"),
        }
    }
}

/// Runs the set until `stop`; returns when everything is down again. `on_change` hears of each phase.
///
/// # Errors
/// [`EmbeddedError::AlreadyRunning`] when another process supervises this data directory.
pub(crate) async fn supervise(
    layout: &Layout,
    options: &Options,
    stop: CancellationToken,
    on_change: impl FnMut(&SetState) + Send,
) -> anyhow::Result<()> {
    let session = Session::Own { ordinaut: options.programs.ordinaut.clone() };
    let site = Site::prepare(layout.clone(), session, Durability::Durable)?;
    let Some(lock) = SetLock::take(layout)? else {
        let pid = SetState::read(layout).map_or(0, |state| state.supervisor.pid);
        return Err(EmbeddedError::AlreadyRunning { pid }.into());
    };
    let left = SetState::read(layout);
    let state = SetState::begin(&options.version, Timestamp::now());
    let mut supervisor = Supervisor { site, options, state, on_change };
    supervisor.enter(Phase::Preparing)?;
    if let Some(left) = left {
        services::stop_left_over(&left, options.drain_limit).await?;
    }

    // Cancelled in the middle of a start, a server may be up without being noted: `take_down` finds it by its files.
    let outcome = match stop.run_until_cancelled(supervisor.bring_up()).await {
        None => Ok(()),
        Some(Err(error)) => Err(error),
        Some(Ok(())) => supervisor.watch(&stop).await,
    };
    let outcome = outcome.and(supervisor.take_down().await);
    supervisor.enter(match &outcome {
        Ok(()) => Phase::Stopped,
        Err(error) => Phase::Failed { reason: format!("{error:#}") },
    })?;
    drop(lock);
    outcome
}

struct Supervisor<'a, F> {
    site: Site,
    options: &'a Options,
    state: SetState,
    on_change: F,
}

impl<F: FnMut(&SetState) + Send> Supervisor<'_, F> {
    fn enter(&mut self, phase: Phase) -> anyhow::Result<()> {
        info!(phase = %phase, "the embedded set is {phase}");
        self.state.phase = phase;
        (self.on_change)(&self.state);
        self.note()
    }

    fn note(&mut self) -> anyhow::Result<()> {
        self.state.updated_at = Timestamp::now();
        Ok(self.state.write(&self.site.layout)?)
    }

    async fn bring_up(&mut self) -> anyhow::Result<()> {
        let postgres = self.start_postgres().await?;
        let url = postgres.url();
        self.state.database_url = Some(url.clone());

        self.enter(Phase::StartingRedis)?;
        self.state.redis_url = Some(Redis::url(&self.site));
        self.start_redis().await?;

        self.enter(Phase::Migrating)?;
        ordinaut_store::migrate(&url).await.context("could not migrate the database")?;

        self.enter(Phase::StartingServices)?;
        let address = free_address(self.options.mcp_port).await?;
        self.state.mcp_http = Some(address);
        self.start_service(Service::Executor)?;
        self.start_service(Service::Mcp)?;
        self.note()?;
        services::wait_for_port(address, self.state.mcp.as_ref()).await;
        self.enter(Phase::Running)
    }

    async fn start_postgres(&mut self) -> anyhow::Result<Postgres> {
        let mut noted = Ok(());
        let Self { site, state, on_change, .. } = self;
        let mut tell = |phase| {
            if state.phase == Phase::Running {
                return;
            }
            info!(phase = %phase, "the embedded set is {phase}");
            state.phase = phase;
            state.updated_at = Timestamp::now();
            on_change(state);
            noted = state.write(&site.layout);
        };
        let postgres = Postgres::start(site, &mut tell).await?;
        noted?;
        self.state.postgres = Some(postgres.process.clone());
        Ok(postgres)
    }

    /// Starts Redis. Without it work goes on and events wait, so only its absence from the machine is fatal.
    async fn start_redis(&mut self) -> anyhow::Result<()> {
        match Redis::start(&self.site).await {
            Ok(redis) => self.state.redis = Some(redis.process),
            Err(error @ EmbeddedError::Missing { .. }) => return Err(error.into()),
            Err(error) => error!(error = &error as &dyn std::error::Error, "Redis did not start; events wait for it"),
        }
        Ok(())
    }

    fn start_service(&mut self, service: Service) -> anyhow::Result<()> {
        let process = service.start(&self.site, self.options, &self.state)?;
        *service.slot(&mut self.state) = process;
        Ok(())
    }

    /// Looks after the set until `stop`.
    async fn watch(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probes = Probes::default();
        let mut backoffs = [Backoff::default(); 4];
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let looked = stop.run_until_cancelled(async {
                self.probe(&mut probes).await;
                for (service, backoff) in Service::ALL.into_iter().zip(&mut backoffs) {
                    self.look_after(service, backoff).await;
                }
            });
            if looked.await.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Starts `service` again if it ended and its backoff is over. A failure is logged and tried again later.
    async fn look_after(&mut self, service: Service, backoff: &mut Backoff) {
        if service.slot(&mut self.state).as_ref().is_some_and(Process::is_alive) {
            return;
        }
        if service.slot(&mut self.state).take().is_some() {
            warn!(service = service.name(), "{} ended on its own; it is started again", service.name());
        }
        if !backoff.is_over(Instant::now()) {
            return;
        }
        backoff.begin(Instant::now());
        let started = match service {
            Service::Postgres => self.start_postgres().await.map(drop),
            Service::Redis => self.start_redis().await,
            Service::Executor | Service::Mcp => self.start_service(service),
        };
        if let Err(error) = started.and_then(|()| self.note()) {
            error!(error = &*error as &dyn std::error::Error, "could not start {} again", service.name());
        }
    }

    /// Stops servers that live and have long been silent, so that the next look starts them.
    async fn probe(&mut self, probes: &mut Probes) {
        if probes.last.is_some_and(|last| last.elapsed() < PROBE_INTERVAL) {
            return;
        }
        probes.last = Some(Instant::now());
        trim_logs(&self.site.layout.log_dir());
        if let Some(postgres) = Postgres::find(&self.site) {
            probes.postgres = if postgres.is_healthy().await { 0 } else { probes.postgres + 1 };
            if probes.postgres >= SILENT_PROBES {
                probes.postgres = 0;
                report("PostgreSQL", postgres.stop().await);
            }
        }
        if let Some(process) = self.state.redis.clone().filter(Process::is_alive) {
            let answers = Redis::find(&self.site).await.is_some();
            probes.redis = if answers { 0 } else { probes.redis + 1 };
            if probes.redis >= SILENT_PROBES {
                probes.redis = 0;
                report("Redis", process.stop(&Service::Redis.stop_steps(self.options.drain_limit)).await);
            }
        }
    }

    /// Takes everything down: those who use the servers first. Goes on past what does not stop, and says so.
    async fn take_down(&mut self) -> anyhow::Result<()> {
        self.enter(Phase::Stopping)?;
        let mut outcome = services::stop_left_over(&self.state, self.options.drain_limit).await;
        if let Some(redis) = Redis::find(&self.site).await {
            outcome = outcome.and(redis.stop().await);
        }
        if let Some(postgres) = Postgres::find(&self.site) {
            outcome = outcome.and(postgres.stop().await);
        }
        for service in Service::ALL {
            *service.slot(&mut self.state) = None;
        }
        Ok(outcome?)
    }
}

#[derive(Default)]
struct Probes {
    last: Option<Instant>,
    postgres: u8,
    redis: u8,
}

fn report(server: &str, stopped: Result<(), EmbeddedError>) {
    match stopped {
        Ok(()) => warn!("{server} lived and did not answer; it was stopped and is started again"),
        Err(error) => error!(error = &error as &dyn std::error::Error, "{server} does not answer and does not stop"),
    }
}

/// The address that `ordinaut-mcp http` is told to listen on.
pub(crate) const MCP_ADDRESS_VARIABLE: &str = "ORDINAUT_HTTP_ADDR";

/// Every variable that says where the set is, for a child that uses it.
fn service_environment(site: &Site, options: &Options, state: &SetState) -> Vec<(OsString, OsString)> {
    let mut environment = site.layout.variables();
    let address = state.mcp_http.as_ref().map(SocketAddr::to_string);
    let known = [
        ("DATABASE_URL", state.database_url.clone()),
        ("REDIS_URL", state.redis_url.clone()),
        (MCP_ADDRESS_VARIABLE, address),
    ];
    environment.extend(known.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into()))));
    environment.extend(options.environment.iter().cloned());
    environment
}
