//! `ordinaut-executor`: reads its configuration and runs the daemon.

use std::{collections::BTreeMap, env, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use nix::unistd::geteuid;
use ordinaut_executor::{
    actions::{group::PASSED_ON, notify::Desktop},
    config::Config,
    daemon::{self, Machine},
    telemetry,
};
use ordinaut_store::{embedded::Layout, faults};
use ordinaut_telemetry::Settings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs what is due: plans occurrences, claims runs, relays events. Needs `DATABASE_URL`; uses `REDIS_URL`.
///
/// Everything is configured in `ordinaut.toml` and `ORDINAUT_*`; SIGTERM drains.
#[derive(Debug, Parser)]
#[command(name = "ordinaut-executor", version)]
struct Arguments {
    /// Reads and judges the configuration, shows it redacted on stderr, and ends.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    faults::set_up();
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "logging may not have begun")]
            {
                eprintln!("ordinaut-executor: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge: the environment is read here, once")]
fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let layout = Layout::from_lookup(geteuid().as_raw(), |name| env::var_os(name));
    let path = layout.config_file.path.display();
    let file = layout.config_file.read().with_context(|| format!("read {path}"))?;
    let environment: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = Config::read(file.as_deref(), &environment).with_context(|| format!("configured by {path}"))?;
    if arguments.check {
        #[expect(clippy::print_stderr, reason = "that is what was asked for")]
        {
            eprintln!("{config:#?}");
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    // The SDK writes down whole messages, as servers sent them: whatever they hold, secrets too, and as many as they send.
    let filter = format!("{},rmcp=error", config.log.filter);
    let settings = Settings {
        program: "ordinaut-executor",
        version: env!("CARGO_PKG_VERSION"),
        filter: &filter,
        format: config.log.format,
        traces: &config.telemetry,
    };
    let telling = ordinaut_telemetry::start(settings, runtime.handle())?;
    let exposition = telemetry::count()?;
    let machine = Machine {
        config_dir: Some(layout.config_dir),
        config_file: Some(layout.config_file.path),
        environment: PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), env::var_os(name)?))).collect(),
        host: host(),
        desktop: Desktop::find(|name| env::var_os(name).filter(|value| !value.is_empty()), geteuid().as_raw()),
    };
    let ended = runtime.block_on(daemon::run(config, machine, exposition));
    telling.close();
    ended
}

/// What people call this machine; only shown.
#[expect(clippy::disallowed_methods, reason = "the edge")]
fn host() -> String {
    env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
