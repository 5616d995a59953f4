//! The small server that the example fetches from: part of the project, on loopback, ended with this process.
//!
//! The one who supervises a set allows its executor this address and notes so beside the set's state. Who finds the
//! set running reads there whether the example may fetch.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ordinaut_store::embedded::{Layout, Process, SetState};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::{
    config::Config,
    failure::{Exit, Failure},
};

const PROGRAM: &str = "ordinaut-example-server";
/// The usual port, so that the example's definition stays the same from one `up` to the next.
const PORT: u16 = 7449;
const START_LIMIT: Duration = Duration::from_secs(15);

/// The server, if it is ours to end.
#[derive(Debug)]
pub(super) struct ExampleServer {
    pub(super) address: SocketAddr,
    /// Killed when dropped.
    _child: Option<Child>,
}

impl ExampleServer {
    /// Starts it, at the usual port or, if that is taken, a free one.
    pub(super) async fn start(config: &Config) -> Result<Self, Failure> {
        if let Some(server) = Self::spawn(config, PORT).await? {
            return Ok(server);
        }
        let server = Self::spawn(config, 0).await?;
        server.ok_or_else(|| Failure::new(Exit::Failed, format!("{PROGRAM} ended at once, at any port")))
    }

    /// Starts it at `address`, unless somebody answers there already; nothing if neither works out.
    pub(super) async fn join(config: &Config, address: SocketAddr) -> Result<Option<Self>, Failure> {
        if let Some(server) = Self::spawn(config, address.port()).await? {
            return Ok(Some(server));
        }
        let answers = matches!(timeout(START_LIMIT, TcpStream::connect(address)).await, Ok(Ok(_)));
        Ok(answers.then_some(Self { address, _child: None }))
    }

    /// `None` when it ended without saying where it listens: the port is taken.
    async fn spawn(config: &Config, port: u16) -> Result<Option<Self>, Failure> {
        let program = config.installed(PROGRAM)?;
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut child = Command::new(&program)
            .arg("--http")
            .arg(wanted.to_string())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is for us; we end it when the example is over.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::new(Exit::Missing, format!("could not start {}: {error}", program.display())))?;
        let stdout = child.stdout.take().expect("its stdout is piped");
        let mut first = String::new();
        let said = timeout(START_LIMIT, BufReader::new(stdout).read_line(&mut first)).await;
        if !matches!(said, Ok(Ok(_))) {
            return Err(Failure::new(Exit::Failed, format!("{PROGRAM} does not say where it listens")));
        }
        let address = first.trim().strip_prefix("http://").and_then(|address| address.parse().ok());
        Ok(address.map(|address| Self { address, _child: Some(child) }))
    }
}

/// Which address the executor of which set may reach.
#[derive(Debug, Serialize, Deserialize)]
struct Allowed {
    supervisor: Process,
    address: SocketAddr,
}

fn file(layout: &Layout) -> PathBuf {
    layout.data_dir.join("example.json")
}

pub(super) fn note_allowed(layout: &Layout, state: &SetState, address: SocketAddr) -> Result<(), Failure> {
    let allowed = Allowed { supervisor: state.supervisor.clone(), address };
    let text = serde_json::to_vec(&allowed).expect("an address and a process are plain");
    let path = file(layout);
    std::fs::write(&path, text)
        .map_err(|error| Failure::new(Exit::Failed, format!("could not write {}: {error}", path.display())))
}

/// What the executor of this very set was allowed, if anything.
pub(super) fn allowed_by(layout: &Layout, state: &SetState) -> Option<SocketAddr> {
    let text = std::fs::read(file(layout)).ok()?;
    let allowed: Allowed = serde_json::from_slice(&text).ok()?;
    (allowed.supervisor == state.supervisor).then_some(allowed.address)
}
