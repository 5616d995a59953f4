//! Ordinaut for people.

mod agent;
mod apply;
mod approve;
mod channel;
mod claude_config;
mod config;
mod credential;
mod doctor;
mod down;
mod export;
mod failure;
mod gate;
mod inbox;
mod llm;
mod next;
mod operator_file;
mod out;
mod rehearse;
mod retry;
mod run;
mod runs;
mod secret;
mod server;
mod service;
mod session;
mod status;
mod supervise;
mod tasks;
mod timeline;
mod times;
mod trial;
mod up;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use config::Config;
use failure::{EXIT_CODES, Exit, Failure};
use out::{Form, Out};
use session::Session;

/// Ordinaut gives an AI assistant a clock, a memory and discipline: schedule tasks, watch them run.
///
/// With DATABASE_URL set, that database is used; otherwise a private PostgreSQL and Redis, which commands start in
/// the background when they are not running.
#[derive(Debug, Parser)]
#[command(name = "ordinaut", version, after_help = EXIT_CODES, max_term_width = 110)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    /// Act for this agent instead of the local one
    #[arg(long, global = true, value_name = "NAME")]
    agent: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything, create an example task, show its first run; stays in the foreground until Ctrl-C
    Up(up::Up),
    /// The same as `up`, and exits once the example task has run
    Demo(up::Up),
    /// Stop the set that runs in the background; runs in hand are finished first
    Down,
    /// What runs, what is due, what stands in the way
    Status,
    /// Create or change tasks from files, keyed by title
    Apply(apply::Apply),
    /// Print tasks as definitions that `apply` takes
    Export(export::Export),
    /// List tasks, or show one
    Tasks(tasks::Tasks),
    /// List runs, show one step by step, or follow them
    Runs(runs::Runs),
    /// Run a task now
    Run(run::Run),
    /// Retry a run that failed, was cancelled or quarantined, as a new run
    Retry(retry::Retry),
    /// Read the messages that tasks left
    Inbox(inbox::Inbox),
    /// Decide what runs ask a person: without an id, list what waits; with one, approve or reject it
    Approve(approve::Approve),
    /// Show what a schedule means and when it is due; needs no database
    Next(next::NextArgs),
    /// Stop every task at its next step, until `resume-all`
    PauseAll,
    /// Let tasks go on after `pause-all`
    ResumeAll,
    /// Agents that reach Ordinaut over HTTP, and their tokens
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Where steps may send messages to people
    #[command(subcommand)]
    Channel(channel::Channel),
    /// Language models that steps may ask
    #[command(subcommand)]
    Llm(llm::Llm),
    /// MCP servers whose tools steps may use
    #[command(subcommand)]
    Server(server::Server),
    /// Have the machine keep Ordinaut up
    #[command(subcommand)]
    Service(service::Service),
    /// Credentials that steps and the configuration name, and only a call that needs them gets
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Print the entry for Claude Desktop's configuration, Claude Code's or another chat's, or put it there
    ClaudeConfig(claude_config::ClaudeConfig),
    /// Judge this installation: what is configured, what answers, and what to do about the rest
    Doctor,
    /// Supervise the embedded set (started by the first chat)
    #[command(hide = true)]
    Supervise,
}

fn main() -> ExitCode {
    if let Some(code) = supervise::hidden_command(std::env::args_os()) {
        return code;
    }
    let Arguments { global, command } = Arguments::parse();
    let out = Out { form: if global.json { Form::Programs } else { Form::People } };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("could not start the runtime: {error}")))
        .and_then(|runtime| runtime.block_on(perform(command, &global, out)));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            tell(&failure, out);
            ExitCode::from(failure.code())
        }
    }
}

async fn perform(command: Command, global: &Global, out: Out) -> Result<ExitCode, Failure> {
    if let Command::Next(options) = &command {
        #[expect(clippy::disallowed_methods, reason = "there is no database whose clock could be asked")]
        let now = jiff::Timestamp::now();
        return next::run(options, now, times::machine_zone().as_ref()).or_else(next_failed);
    }
    let config = Config::from_process()?;
    let agent = global.agent.as_deref();
    let open = || Session::open(&config, agent);
    match command {
        Command::Up(options) => return up::up(&config, &options, up::Then::Stay, out).await,
        Command::Demo(options) => return up::up(&config, &options, up::Then::Exit, out).await,
        Command::Down => down::down(&config, out).await?,
        Command::Status => status::status(&config, agent, out).await?,
        Command::Apply(options) => {
            // Read first: for a file that is not there no database needs to be started.
            let documents = apply::read(&options)?;
            apply::apply(&open().await?, documents, &options, out).await?;
        }
        Command::Export(options) => export::export(&open().await?, &options, out).await?,
        Command::Tasks(options) => tasks::tasks(&open().await?, &options, out).await?,
        Command::Runs(options) => runs::runs(&open().await?, &options, out).await?,
        Command::Run(options) => return run::run(&open().await?, &options, out).await,
        Command::Retry(options) => return retry::retry(&open().await?, &options, out).await,
        Command::Inbox(options) => inbox::inbox(&open().await?, &options, out).await?,
        Command::Approve(options) => approve::approve(&open().await?, &config, agent, &options, out).await?,
        Command::PauseAll => gate::shut(&open().await?, agent, out).await?,
        Command::ResumeAll => gate::open(&open().await?, agent, out).await?,
        Command::Agent(verb) => agent::agent(&open().await?, &verb, out).await?,
        Command::Service(verb) => service::service(&config, &verb, out).await?,
        Command::Secret(verb) => {
            if let secret::Secret::Set(options) = &verb {
                // Judged first: for a host that is none no database needs to be started.
                options.bindings()?;
            }
            secret::secret(&open().await?, &config, &verb, out).await?;
        }
        Command::Channel(verb) => channel::channel(&config, agent, &verb, out).await?,
        Command::Llm(verb) => llm::llm(&config, agent, &verb, out).await?,
        Command::Server(verb) => server::server(&config, agent, &verb, out).await?,
        Command::ClaudeConfig(options) => claude_config::claude_config(&config, &options, out).await?,
        Command::Doctor => return doctor::doctor(&config, out).await,
        Command::Next(_) | Command::Supervise => unreachable!("seen to before arguments are parsed"),
    }
    Ok(ExitCode::SUCCESS)
}

/// `next` answers programs line by line, whose reader may go away.
fn next_failed(error: anyhow::Error) -> Result<ExitCode, Failure> {
    let is_gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|it| it.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_gone) { Err(Failure::ReaderGone) } else { Err(error.into()) }
}

fn tell(failure: &Failure, out: Out) {
    match failure {
        Failure::ReaderGone => {}
        // Where the answer would have been. If that cannot be said either, the exit code is what is left.
        _ if out.is_json() => drop(out.json(&failure.to_json())),
        _ => out::note(format!("ordinaut: {}", failure.to_text())),
    }
}
