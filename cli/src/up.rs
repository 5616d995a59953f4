//! `up` and `demo`: everything started, an example task created the way an assistant does, its run shown.
//!
//! When nothing runs here yet, this process supervises the set in the foreground and takes it down at the end. When
//! a set runs already it is used and left as it is. Either way the example task is there once: what is found under
//! its title is run again.

mod client;
mod example;
mod server;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ordinaut_schema::run::RunState;
use ordinaut_store::embedded::{self, EmbeddedError, EnsureRunning, Phase, SetState};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    claude_config::entry,
    config::Config,
    failure::{Exit, Failure},
    out::{Out, note},
    session::Session,
    supervise::{DEFAULT_MCP_PORT, Options, Programs, supervise},
    timeline::to_json,
};

use server::ExampleServer;

const DRAIN_LIMIT: Duration = Duration::from_secs(30);
const START_LIMIT: Duration = Duration::from_mins(3);
/// What the executor may reach besides public addresses.
const ALLOW_VARIABLE: &str = "ORDINAUT_HTTP_ALLOW";

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Loopback port of MCP over HTTP; a free one is taken when it is in use
    #[arg(long, default_value_t = DEFAULT_MCP_PORT)]
    mcp_port: u16,
    /// Start everything and leave out the example task
    #[arg(long)]
    no_example: bool,
}

/// What comes after the example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Stay,
    Exit,
}

/// One `up` or `demo`.
struct Bringing<'a> {
    config: &'a Config,
    options: &'a Up,
    then: Then,
    out: Out,
    stop: CancellationToken,
    began: Instant,
}

pub(crate) async fn up(config: &Config, options: &Up, then: Then, out: Out) -> Result<ExitCode, Failure> {
    if config.database_url.is_some() {
        return Err(Failure::new(Exit::Refused, "DATABASE_URL is set, and `up` starts a database of its own")
            .mend("unset it; or start `ordinaut-executor` and `ordinaut-mcp http` against that database"));
    }
    for program in ["ordinaut-mcp", "ordinaut-executor"] {
        config.installed(program)?;
    }
    // What the supervision has to say while nobody reads its log.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(ordinaut_telemetry::colours())
        .with_writer(std::io::stderr)
        .init();
    let stop = CancellationToken::new();
    let signals = tokio::spawn(cancel_on_signal(stop.clone()));
    let bringing = Bringing { config, options, then, out, stop, began: Instant::now() };
    let outcome = bringing.bring_up().await;
    signals.abort();
    outcome
}

async fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    Ok(())
}

impl Bringing<'_> {
    async fn bring_up(&self) -> Result<ExitCode, Failure> {
        if embedded::current(&self.config.layout).is_some() {
            return self.attach().await;
        }
        match Box::pin(self.supervise()).await {
            // Somebody was quicker; what they started serves as well.
            Err(Supervised::AlreadyRunning) => self.attach().await,
            Err(Supervised::Failed(failure)) => Err(failure),
            Ok(code) => Ok(code),
        }
    }

    /// Uses the set that runs here, and leaves it running.
    async fn attach(&self) -> Result<ExitCode, Failure> {
        self.progress("Ordinaut runs here already; it is used, and left running at the end");
        let want = EnsureRunning {
            layout: &self.config.layout,
            ordinaut: &self.config.ordinaut,
            version: env!("CARGO_PKG_VERSION"),
            arguments: Vec::new(),
            limit: START_LIMIT,
        };
        let waited = embedded::ensure_running(&want, |state| self.progress(&state.phase.to_string()));
        let Some(state) = self.stop.run_until_cancelled(waited).await.transpose()? else {
            return Ok(ExitCode::SUCCESS);
        };
        let server = match server::allowed_by(&self.config.layout, &state) {
            Some(address) if !self.options.no_example => ExampleServer::join(self.config, address).await?,
            _ => None,
        };
        let shown = self.stop.run_until_cancelled(self.show(&state, server.as_ref())).await;
        let code = self.concluded(shown.unwrap_or(Ok(ExitCode::SUCCESS)))?;
        if self.then == Then::Stay {
            self.progress("Ctrl-C ends this; the set goes on in the background (`ordinaut down` stops it)");
            self.stop.cancelled().await;
        }
        Ok(code)
    }

    /// Runs the set in the foreground, and takes it down at the end.
    async fn supervise(&self) -> Result<ExitCode, Supervised> {
        let layout = &self.config.layout;
        let server = if self.options.no_example { None } else { Some(ExampleServer::start(self.config).await?) };
        let allowed = server.as_ref().map(|server| (OsString::from(ALLOW_VARIABLE), server.address.to_string().into()));
        let options = Options {
            programs: Programs::beside(&self.config.ordinaut),
            version: env!("CARGO_PKG_VERSION").into(),
            mcp_port: self.options.mcp_port,
            environment: allowed.into_iter().collect(),
            drain_limit: DRAIN_LIMIT,
        };
        let (told, mut states) = watch::channel::<Option<SetState>>(None);
        let supervised = async {
            // Dropped with the supervision, which ends whoever waits for a phase that will not come.
            let told = told;
            supervise(layout, &options, self.stop.clone(), |state| {
                self.progress(&state.phase.to_string());
                told.send_replace(Some(state.clone()));
            })
            .await
        };
        let shown = async {
            let is_up = |state: &Option<SetState>| state.as_ref().is_some_and(|state| state.phase == Phase::Running);
            let shown = match states.wait_for(is_up).await.map(|state| state.clone().expect("it is up")) {
                Ok(state) => self.show_own(&state, server.as_ref()).await,
                // The supervision says why.
                Err(_) => Ok(ExitCode::SUCCESS),
            };
            match self.then {
                Then::Exit => self.stop.cancel(),
                Then::Stay => self.progress("Ctrl-C stops everything; runs in hand are finished first"),
            }
            self.concluded(shown)
        };
        let (supervised, shown) = tokio::join!(supervised, shown);
        match supervised {
            Err(error) if is_already_running(&error) => Err(Supervised::AlreadyRunning),
            Err(error) => Err(Supervised::Failed(error.into())),
            Ok(()) => Ok(shown?),
        }
    }

    /// Shows the example on the set that this process supervises, until asked to stop.
    async fn show_own(&self, state: &SetState, server: Option<&ExampleServer>) -> Result<ExitCode, Failure> {
        if let Some(server) = server {
            server::note_allowed(&self.config.layout, state, server.address)?;
        }
        let shown = self.stop.run_until_cancelled(self.show(state, server)).await;
        shown.unwrap_or(Ok(ExitCode::SUCCESS))
    }

    /// The example, then what to paste into Claude Desktop.
    async fn show(&self, state: &SetState, server: Option<&ExampleServer>) -> Result<ExitCode, Failure> {
        let url = state.database_url.as_deref();
        let url = url.ok_or_else(|| Failure::new(Exit::NotRunning, "the set does not say where its database is"))?;
        let mcp = self.config.installed("ordinaut-mcp")?;
        let mut code = ExitCode::SUCCESS;
        let mut run = None;
        if !self.options.no_example {
            let session = Session::at(self.config, url, None).await?;
            let server = server.map(|server| server.address);
            let over = Box::pin(example::example(self.config, &session, server, self.out)).await?;
            if over.state != RunState::Succeeded {
                code = ExitCode::from(Exit::Failed as u8);
            }
            run = Some(over);
        }
        if self.out.is_json() {
            self.out.json(&json!({
                "mcp_http": state.mcp_http.map(|address| self.config.mcp_urls(address)),
                "run": run.as_ref().map(to_json),
                "claude_desktop": entry(&mcp),
            }))?;
            return Ok(code);
        }
        let [streamable, sse] = state.mcp_http.map(|address| self.config.mcp_urls(address)).unwrap_or_default();
        self.out.line("\nAdd this to Claude Desktop (Settings, Developer, Edit Config) and start it again:\n")?;
        self.out.json(&entry(&mcp))?;
        self.out.line(format!("\nRemote clients: {streamable} or {sse} (`ordinaut agent add` makes a token)"))?;
        Ok(code)
    }

    /// An example that went wrong ends `demo`; `up` tells of it and stays, since the rest works.
    fn concluded(&self, shown: Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
        match (shown, self.then) {
            (Err(failure), Then::Stay) if !matches!(failure, Failure::ReaderGone) => {
                note(format!("ordinaut: {}", failure.to_text()));
                Ok(ExitCode::SUCCESS)
            }
            (shown, _) => shown,
        }
    }

    fn progress(&self, what: &str) {
        note(format!("[{:>5.1}s] {what}", self.began.elapsed().as_secs_f64()));
    }
}

/// Why this process does not supervise.
enum Supervised {
    AlreadyRunning,
    Failed(Failure),
}

impl From<Failure> for Supervised {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn is_already_running(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(EmbeddedError::AlreadyRunning { .. }))
}
