//! The two hidden commands of `ordinaut`, seen to before anything else is parsed or started.
//!
//! `enter-session` must run while the process has no thread and no descriptor of its own; `supervise` is what the
//! first chat starts in the background. Both are for programs, so they take few and fixed arguments.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ordinaut_store::embedded::{ENTER_SESSION, EmbeddedError, Layout, SUPERVISE, enter_session};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{DEFAULT_MCP_PORT, Options, Programs, supervise};

const DRAIN_LIMIT: Duration = Duration::from_mins(1);

/// Runs a hidden command; `None` if `arguments` (with the program's name first) hold another one.
pub(crate) fn hidden_command(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let command = arguments.next()?;
    let outcome = if command == ENTER_SESSION {
        Err(anyhow::Error::from(enter_session(arguments)).context("could not start the program"))
    } else if command == SUPERVISE {
        supervise_in_background(arguments)
    } else {
        return None;
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads on when even this fails.
            let _ = writeln!(io::stderr(), "ordinaut: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn supervise_in_background(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let options = options(arguments)?;
    let layout = Layout::from_lookup(nix::unistd::geteuid().as_raw(), |name| std::env::var_os(name));
    tracing_subscriber::fmt().with_ansi(false).with_writer(io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let asked = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
            // The supervision below ends everything; this arm only ever asks.
            std::future::pending().await
        };
        tokio::select! {
            outcome = supervise(&layout, &options, stop.clone(), |_| {}) => match outcome {
                // Several chats may have started one each: the others are served by the first.
                Err(error) if is_already_running(&error) => Ok(()),
                outcome => outcome,
            },
            never = asked => never,
        }
    })
}

fn is_already_running(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(EmbeddedError::AlreadyRunning { .. }))
}

fn options(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Options> {
    let mut options = Options {
        programs: Programs::beside(&std::env::current_exe().context("find this program")?),
        version: env!("CARGO_PKG_VERSION").into(),
        mcp_port: DEFAULT_MCP_PORT,
        environment: Vec::new(),
        drain_limit: DRAIN_LIMIT,
    };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.into_string().ok());
        match (argument.to_str(), value) {
            (Some("--mcp-port"), Some(port)) => {
                options.mcp_port = port.parse().with_context(|| format!("`{port}` is not a port"))?;
            }
            _ => bail!("supervise takes `--mcp-port <port>` and nothing else"),
        }
    }
    Ok(options)
}
