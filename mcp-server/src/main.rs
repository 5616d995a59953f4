//! `ordinaut-mcp`: MCP on stdio for a desktop client, or on HTTP for remote ones.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use ordinaut_mcp::{
    backend::Backend,
    config::Config,
    http::{HttpServer, Parts},
    server::OrdinautServer,
    stdio,
    telemetry::{Metrics, start_logging},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Ordinaut for AI assistants: schedule work over the Model Context Protocol.
#[derive(Debug, Parser)]
#[command(name = "ordinaut-mcp", version)]
struct Arguments {
    /// The configuration file; by default `ordinaut.toml` in the user's configuration directory.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    transport: Transport,
}

#[derive(Debug, Subcommand)]
enum Transport {
    /// Speak MCP on stdin and stdout, as the local agent.
    Stdio,
    /// Serve Streamable HTTP at /mcp and HTTP+SSE at /sse.
    Http {
        /// The address to listen on.
        #[arg(long, value_name = "HOST:PORT")]
        listen: Option<SocketAddr>,
        /// Where a proxy shows this server, such as /ordinaut.
        #[arg(long, value_name = "PATH")]
        base_path: Option<String>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let config = read_config(&arguments)?;
    start_logging(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let ended = runtime.block_on(serve(config, &arguments.transport));
    // A read of stdin cannot be cancelled; it must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn serve(config: Config, transport: &Transport) -> Result<()> {
    let drain = CancellationToken::new();
    let signals = tokio::spawn(drain_on_signals(drain.clone()));
    let metrics = Metrics::new()?;
    let (_stage, backend) = Backend::starting("the services");
    let zone = config.timezone.as_deref();
    let ended = match transport {
        Transport::Stdio => {
            let server = OrdinautServer::local(backend, metrics, zone);
            stdio::serve(server, &drain).await.map_err(Into::into)
        }
        Transport::Http { .. } => {
            let server = OrdinautServer::guarded(backend.clone(), metrics.clone(), zone);
            let tokens = Arc::new(backend.clone());
            let http = HttpServer::new(&config.mcp, Parts { server, backend, tokens, metrics, drain });
            let listener = TcpListener::bind(config.mcp.listen)
                .await
                .with_context(|| format!("listen on {}", config.mcp.listen))?;
            info!("listening on {}", listener.local_addr().context("read the address listened on")?);
            http.serve(listener).await.context("serve HTTP")
        }
    };
    signals.abort();
    ended
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
fn read_config(arguments: &Arguments) -> Result<Config> {
    let mut environment: BTreeMap<String, String> = std::env::vars().collect();
    if let Transport::Http { listen, base_path } = &arguments.transport {
        if let Some(listen) = listen {
            environment.insert("ORDINAUT_MCP_LISTEN".to_owned(), listen.to_string());
        }
        if let Some(base_path) = base_path {
            environment.insert("ORDINAUT_MCP_BASE_PATH".to_owned(), base_path.clone());
        }
    }
    let file = read_file(arguments.config.as_ref(), &environment)?;
    Ok(Config::read(file.as_deref(), &environment)?)
}

fn read_file(named: Option<&PathBuf>, environment: &BTreeMap<String, String>) -> Result<Option<String>> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = named.cloned().or_else(|| set("ORDINAUT_CONFIG"));
    if let Some(path) = named {
        return std::fs::read_to_string(&path).map(Some).with_context(|| format!("read {}", path.display()));
    }
    let directory = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let Some(path) = directory.map(|directory| directory.join("ordinaut/ordinaut.toml")) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
