//! `ordinaut-mcp`: MCP on stdio for a desktop client, or on HTTP for remote ones.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::geteuid,
};
#[cfg(feature = "conformance")]
use ordinaut_mcp::conformance::{Instance, Loopback};
use ordinaut_mcp::{
    backend::{Backend, Embedded},
    bring_up::{self, Place},
    config::Config,
    http::{HttpServer, Parts, Tls},
    server::{OrdinautServer, Zones},
    stdio,
    telemetry::Metrics,
};
use ordinaut_schema::time::Zone;
use ordinaut_store::embedded::{ConfigFile, Layout, ServiceUnits};
use ordinaut_telemetry::Settings;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Ordinaut for AI assistants: schedule work over the Model Context Protocol.
#[derive(Debug, Parser)]
#[command(name = "ordinaut-mcp", version)]
struct Arguments {
    /// The configuration file; by default what ORDINAUT_CONFIG names, else `ordinaut.toml` in the configuration directory.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    transport: Transport,
}

#[derive(Debug, Subcommand)]
enum Transport {
    /// Speak MCP on stdin and stdout, as the local agent.
    Stdio {
        #[command(flatten)]
        offered: Offered,
    },
    /// Serve Streamable HTTP at /mcp and HTTP+SSE at /sse.
    Http {
        /// The address to listen on.
        #[arg(long, value_name = "HOST:PORT")]
        listen: Option<SocketAddr>,
        /// Where a proxy shows this server, such as /ordinaut.
        #[arg(long, value_name = "PATH")]
        base_path: Option<String>,
        #[command(flatten)]
        offered: Offered,
    },
    /// Serve Streamable HTTP at /mcp to whoever is on this machine, with the fixtures of the conformance suite and nobody's tasks.
    #[cfg(feature = "conformance")]
    Conformance {
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
        listen: Loopback,
    },
}

/// What of the tools is offered.
#[derive(Debug, clap::Args)]
struct Offered {
    /// Offer only tools that change nothing.
    #[arg(long)]
    read_only: bool,
    /// Offer only these groups of tools, separated by commas: tasks, runs, schedules, actions, events, inbox, approvals.
    #[arg(long, value_name = "GROUPS")]
    tools: Option<String>,
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let mut layout = Layout::from_lookup(geteuid().as_raw(), |name| std::env::var_os(name));
    if let Some(named) = &arguments.config {
        layout.config_file = ConfigFile::named(named);
    }
    let config = read_config(&arguments, environment, &layout)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let settings = Settings {
        program: "ordinaut-mcp",
        version: env!("CARGO_PKG_VERSION"),
        filter: &config.log.filter,
        format: config.log.format,
        traces: &config.telemetry,
    };
    let telling = ordinaut_telemetry::start(settings, runtime.handle())?;
    let units = ServiceUnits::from_lookup(geteuid().as_raw(), |name| std::env::var_os(name));
    let ended = runtime.block_on(serve(config, Embedded { layout, units }, &arguments.transport));
    telling.close();
    // A read of stdin cannot be cancelled; it must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn serve(config: Config, set: Embedded, transport: &Transport) -> Result<()> {
    let drain = CancellationToken::new();
    let metrics = Metrics::new()?;
    #[cfg(feature = "conformance")]
    if let Transport::Conformance { listen } = transport {
        return serve_conformance(*listen, &config, metrics, drain).await;
    }
    // Before anything else is started for it.
    if matches!(transport, Transport::Http { .. }) {
        config.mcp.check_exposure()?;
    }
    let (starter, backend) = Backend::starting("the services");
    let place = match &config.database_url {
        Some(url) => Place::Configured { database: url.clone(), redis: config.redis_url.clone() },
        None => Place::Embedded { set: Arc::new(set), ordinaut: sibling("ordinaut")? },
    };
    let signals = drain_on_signals(drain.clone());
    let services = bring_up::keep_up(place, starter, drain.clone());
    let transport_ended = serve_transport(&config, transport, backend, metrics, drain.clone());
    tokio::pin!(signals, services, transport_ended);
    // Until the transport ends; what ends before it is polled no more.
    let (mut signals_live, mut services_live) = (true, true);
    loop {
        tokio::select! {
            ended = &mut transport_ended => return ended,
            ended = &mut signals, if signals_live => {
                ended?;
                signals_live = false;
            }
            ended = &mut services, if services_live => {
                services_live = false;
                match ended {
                    // A chat says what is wrong when something is asked; a server that must not serve ends.
                    Err(error) if matches!(transport, Transport::Stdio { .. }) => error!("{error}"),
                    ended => ended?,
                }
            }
        }
    }
}

async fn serve_transport(
    config: &Config,
    transport: &Transport,
    backend: Backend,
    metrics: Metrics,
    drain: CancellationToken,
) -> Result<()> {
    let zones = Zones { machine: machine_zone(), ..Zones::from(config.timezone.as_deref()) };
    match transport {
        Transport::Stdio { .. } => {
            let server = OrdinautServer::local(backend, metrics, zones).offering(config.mcp.surface());
            let server = server.waiting(config.mcp.turn_timeout).looking_every(config.mcp.look_interval);
            stdio::serve(server, &drain).await.map_err(Into::into)
        }
        Transport::Http { .. } => {
            let server =
                OrdinautServer::guarded(backend.clone(), metrics.clone(), zones).offering(config.mcp.surface());
            let server = server.waiting(config.mcp.turn_timeout).looking_every(config.mcp.look_interval);
            allow_descriptors();
            let tokens = Arc::new(backend.clone());
            let tls = match config.mcp.certificate() {
                Some(files) => Some(Tls::open(files).await?),
                None => None,
            };
            let scheme = if tls.is_some() { "https" } else { "http" };
            let http = HttpServer::new(&config.mcp, Parts { server, backend, tokens, metrics, drain }).with_tls(tls);
            let listener = TcpListener::bind(config.mcp.listen)
                .await
                .with_context(|| format!("listen on {}", config.mcp.listen))?;
            info!(scheme, "listening on {}", listener.local_addr().context("read the address listened on")?);
            http.serve(listener).await;
            Ok(())
        }
        #[cfg(feature = "conformance")]
        Transport::Conformance { .. } => unreachable!("it has no services to serve beside"),
    }
}

#[cfg(feature = "conformance")]
async fn serve_conformance(
    address: Loopback,
    config: &Config,
    metrics: Metrics,
    drain: CancellationToken,
) -> Result<()> {
    let listening = Instance::listen(address, &config.mcp, metrics, drain.clone()).await;
    let instance = listening.with_context(|| format!("listen on {address}"))?;
    info!("listening on {}", instance.address().context("read the address listened on")?);
    let (signals, ()) = tokio::join!(drain_on_signals(drain), instance.serve());
    signals
}

/// The zone that this machine is set to, where it says so by name.
fn machine_zone() -> Option<Zone> {
    let system = jiff::tz::TimeZone::try_system().ok()?;
    system.iana_name().and_then(Zone::find)
}

/// Lets this process hold as many descriptors as the system permits: a client holds one or two.
fn allow_descriptors() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is; fewer clients fit");
    }
}

/// Another program of this installation.
fn sibling(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe().context("find this program's own file")?.with_file_name(name))
}

async fn drain_on_signals(drain: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drain.cancel();
    Ok(())
}

/// The file, then the environment, then the command line.
fn read_config(arguments: &Arguments, mut environment: BTreeMap<String, String>, layout: &Layout) -> Result<Config> {
    let offered = match &arguments.transport {
        Transport::Stdio { offered } | Transport::Http { offered, .. } => Some(offered),
        #[cfg(feature = "conformance")]
        Transport::Conformance { .. } => None,
    };
    if let Some(Offered { read_only, tools }) = offered {
        if *read_only {
            environment.insert("ORDINAUT_MCP_READ_ONLY".to_owned(), true.to_string());
        }
        if let Some(tools) = tools {
            environment.insert("ORDINAUT_MCP_TOOLS".to_owned(), tools.clone());
        }
    }
    if let Transport::Http { listen, base_path, .. } = &arguments.transport {
        if let Some(listen) = listen {
            environment.insert("ORDINAUT_HTTP_ADDR".to_owned(), listen.to_string());
        }
        if let Some(base_path) = base_path {
            environment.insert("ORDINAUT_MCP_BASE_PATH".to_owned(), base_path.clone());
        }
    }
    let path = layout.config_file.path.display();
    let file = layout.config_file.read().with_context(|| format!("read {path}"))?;
    Config::read(file.as_deref(), &environment).with_context(|| format!("configured by {path}"))
}
