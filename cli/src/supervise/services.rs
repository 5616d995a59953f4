//! The four services of a set: where each is noted, how the two programs of ours start, and how they stop.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use ordinaut_store::embedded::{EmbeddedError, Launch, Process, SetState, Site};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{Options, service_environment};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A service that lived this long is started again at once, as if it had never failed.
const STEADY_AFTER: Duration = Duration::from_mins(1);
const KILL_LIMIT: Duration = Duration::from_secs(5);
const MCP_STOP_LIMIT: Duration = Duration::from_secs(10);
const PORT_LIMIT: Duration = Duration::from_secs(10);
const PORT_INTERVAL: Duration = Duration::from_millis(50);

/// One of the four that a set consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Postgres,
    Redis,
    Executor,
    Mcp,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Postgres, Self::Redis, Self::Executor, Self::Mcp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Executor => "the executor",
            Self::Mcp => "the MCP server",
        }
    }

    /// Where the state notes its process.
    pub(crate) fn slot(self, state: &mut SetState) -> &mut Option<Process> {
        match self {
            Self::Postgres => &mut state.postgres,
            Self::Redis => &mut state.redis,
            Self::Executor => &mut state.executor,
            Self::Mcp => &mut state.mcp,
        }
    }

    pub(crate) fn stop_steps(self, drain_limit: Duration) -> [(Signal, Duration); 2] {
        let limit = if self == Self::Executor { drain_limit } else { MCP_STOP_LIMIT };
        [(Signal::SIGTERM, limit), (Signal::SIGKILL, KILL_LIMIT)]
    }

    /// Starts one of our two programs; `None` when it ended in the same moment.
    pub(crate) fn start(
        self,
        site: &Site,
        options: &Options,
        state: &SetState,
    ) -> Result<Option<Process>, EmbeddedError> {
        let (program, arguments, log) = match self {
            Self::Executor => (&options.programs.executor, vec![], "executor.log"),
            Self::Mcp => (&options.programs.mcp, vec!["http".into()], "mcp.log"),
            Self::Postgres | Self::Redis => unreachable!("servers are started by the store"),
        };
        let mut environment = service_environment(site, options, state);
        // From the system's own record: tools that steps call look there for their files.
        if let Ok(Some(user)) = User::from_uid(geteuid()) {
            environment.push(("HOME".into(), user.dir.into()));
        }
        let log = site.layout.log_dir().join(log);
        let launch = Launch { program, arguments, environment, account: None, session: &site.session, log: &log };
        Ok(Process::of_child(&launch.start()?))
    }
}

/// When a service that keeps ending may be started again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    begun_at: Option<Instant>,
    delay: Duration,
}

impl Backoff {
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.begun_at.is_none_or(|begun_at| now >= begun_at + self.delay)
    }

    /// Notes a start. The next one in a row has to wait longer.
    pub(crate) fn begin(&mut self, now: Instant) {
        let steady = self.begun_at.is_none_or(|begun_at| now >= begun_at + self.delay + STEADY_AFTER);
        self.delay = if steady { FIRST_BACKOFF } else { (self.delay * 2).min(LONGEST_BACKOFF) };
        self.begun_at = Some(now);
    }
}

/// Stops the executor and the MCP server that `state` names, if they still are who they were.
pub(crate) async fn stop_left_over(state: &SetState, drain_limit: Duration) -> Result<(), EmbeddedError> {
    let stop = async |service: Service, process: &Option<Process>| match process {
        Some(process) => process.stop(&service.stop_steps(drain_limit)).await,
        None => Ok(()),
    };
    let (executor, mcp) = tokio::join!(stop(Service::Executor, &state.executor), stop(Service::Mcp, &state.mcp));
    executor.and(mcp)
}

/// The loopback address for MCP: the wanted port, or a free one if that is taken (another user's set, say).
pub(crate) async fn free_address(port: u16) -> io::Result<SocketAddr> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => listener.local_addr(),
        Err(error) if port != 0 => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            warn!("port {port} cannot be had ({error}); MCP over HTTP listens on {address}");
            Ok(address)
        }
        Err(error) => Err(error),
    }
}

/// Waits until something answers at `address`, or `process` ended. Chats over stdio need neither.
pub(crate) async fn wait_for_port(address: SocketAddr, process: Option<&Process>) {
    let deadline = Instant::now() + PORT_LIMIT;
    while TcpStream::connect(address).await.is_err() {
        if Instant::now() >= deadline || !process.is_some_and(Process::is_alive) {
            warn!("nothing listens on {address}; the log mcp.log says why");
            return;
        }
        sleep(PORT_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_replaced_by_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();

        let address = free_address(port).await.unwrap();

        assert_ne!(address.port(), port);
        assert!(address.ip().is_loopback());
    }

    #[test]
    fn a_service_that_keeps_ending_waits_longer_each_time_up_to_a_bound() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..7 {
            assert!(backoff.is_over(now));
            backoff.begin(now);
            delays.push(backoff.delay.as_secs());
            now += backoff.delay;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_service_that_was_steady_is_forgiven() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        backoff.begin(start);
        backoff.begin(start + FIRST_BACKOFF);
        backoff.begin(start + FIRST_BACKOFF * 3 + STEADY_AFTER);
        assert_eq!(backoff.delay, FIRST_BACKOFF);
    }
}
