//! The embedded Redis (or Valkey): append-only file, Unix socket, nothing else open.
//!
//! It is spoken to in three plain words (`PING`, `INFO`, and a signal to stop), so the crate for Redis stays out of
//! this one. Redis is never the truth: a set without it runs on, so the supervisor decides what its absence means.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::binaries::redis_server;
use super::directories::private_directory;
use super::error::EmbeddedError;
use super::launch::{Launch, tail};
use super::process::Process;
use super::site::{Durability, Site, encode};

/// Reading a large append-only file back takes its time; the process is watched meanwhile.
const READY_LIMIT: Duration = Duration::from_mins(2);
const PROBE_LIMIT: Duration = Duration::from_secs(2);
const PROBE_INTERVAL: Duration = Duration::from_millis(25);
const PID_FILE: &str = "redis.pid";
const ANSWER_LIMIT: usize = 64 << 10;
/// On SIGTERM Redis flushes its append-only file and ends.
const STOP_STEPS: [(Signal, Duration); 2] =
    [(Signal::SIGTERM, Duration::from_secs(10)), (Signal::SIGKILL, Duration::from_secs(5))];
/// One that was asked and kept silent is not waited for as long.
const STUCK_STEPS: [(Signal, Duration); 2] =
    [(Signal::SIGTERM, Duration::from_secs(2)), (Signal::SIGKILL, Duration::from_secs(5))];

/// A Redis of ours that answers.
#[derive(Debug, Clone)]
pub struct Redis {
    pub process: Process,
    socket: PathBuf,
}

impl Redis {
    /// Adopts the server of `site` if it runs, else starts it.
    pub async fn start(site: &Site) -> Result<Self, EmbeddedError> {
        if let Some(found) = Self::find(site).await {
            tracing::info!(process.id = found.process.pid, "adopted the Redis that was running");
            return Ok(found);
        }
        stop_silent(site).await?;
        let program = redis_server(site.layout.environment.path.as_deref())?;
        let data = data_directory(site);
        private_directory(&data, 0o700, site.account.as_ref())?;
        let socket = socket(site);
        let settings = site.configure("redis.conf", &settings(&socket, &data, site.durability))?;
        let log = site.layout.log_dir().join("redis.log");

        let child = Launch {
            program: &program,
            arguments: vec![settings.into()],
            environment: site.layout.environment.variables(),
            account: site.account.as_ref(),
            session: &site.session,
            log: &log,
        }
        .start()?;
        let ended = || EmbeddedError::Ended { program: "Redis", log: tail(&log) };
        let redis = Self { process: Process::of_child(&child).ok_or_else(ended)?, socket };

        let deadline = Instant::now() + READY_LIMIT;
        while !redis.is_healthy().await {
            if !redis.process.is_alive() {
                return Err(ended());
            }
            if Instant::now() >= deadline {
                redis.stop().await?;
                return Err(EmbeddedError::NotReady { program: "Redis", limit: READY_LIMIT, log: tail(&log) });
            }
            sleep(PROBE_INTERVAL).await;
        }
        Ok(redis)
    }

    /// Finds the server that answers on the socket of `site`.
    pub async fn find(site: &Site) -> Option<Self> {
        let socket = socket(site);
        let answer = ask(&socket, "INFO server\r\n").await.ok()?;
        let pid = answer.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()?;
        Some(Self { process: Process::find(pid)?, socket })
    }

    /// How programs reach the one of `site`, up or not, in the form that the `redis` crate reads.
    pub fn url(site: &Site) -> String {
        format!("redis+unix://{}", encode(&socket(site)))
    }

    /// Whether it answers, and is done reading its file.
    pub async fn is_healthy(&self) -> bool {
        ask(&self.socket, "PING\r\n").await.is_ok_and(|answer| answer.starts_with("+PONG"))
    }

    /// Flushes and ends it.
    pub async fn stop(&self) -> Result<(), EmbeddedError> {
        self.process.stop(&STOP_STEPS).await
    }
}

fn socket(site: &Site) -> PathBuf {
    site.sockets().join("redis.sock")
}

fn data_directory(site: &Site) -> PathBuf {
    site.layout.data_dir.join("redis")
}

/// Stops a server of ours that runs and does not answer: two must never write one append-only file.
async fn stop_silent(site: &Site) -> Result<(), EmbeddedError> {
    let note = std::fs::read_to_string(data_directory(site).join(PID_FILE)).unwrap_or_default();
    let Some(process) = note.trim().parse().ok().and_then(Process::find) else { return Ok(()) };
    if process.program().is_some_and(|name| name.contains("redis") || name.contains("valkey")) {
        tracing::warn!(process.id = process.pid, "stopping a Redis that runs and does not answer");
        process.stop(&STUCK_STEPS).await?;
    }
    Ok(())
}

/// Sends one inline command and reads one short answer: a line, or a string of announced length.
async fn ask(socket: &Path, command: &str) -> io::Result<String> {
    let converse = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(command.as_bytes()).await?;
        let mut answer = Vec::new();
        while !is_whole(&answer) && answer.len() < ANSWER_LIMIT {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(PROBE_LIMIT, converse).await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") else { return false };
    match answer.first() {
        Some(b'$') => {
            let length = std::str::from_utf8(&answer[1..end]).ok().and_then(|text| text.parse::<usize>().ok());
            length.is_none_or(|length| answer.len() >= end + 2 + length + 2)
        }
        _ => true,
    }
}

/// The whole configuration. `everysec`: a power cut costs a second of events, which the outbox has anyway.
fn settings(socket: &Path, data: &Path, durability: Durability) -> String {
    // Tests take a numbered database each.
    let (append, databases) = if durability == Durability::Durable { ("yes", 16) } else { ("no", 10_000) };
    // Double quotes with escapes are what its configuration reads.
    let quote = |path: &Path| format!("{:?}", path.display().to_string());
    format!(
        "# Written by Ordinaut at each start; changes are lost.
port 0
databases {databases}
unixsocket {socket}
unixsocketperm 700
dir {data}
appendonly {append}
appendfsync everysec
save \"\"
maxmemory-policy noeviction
daemonize no
pidfile {pid_file}
logfile \"\"
always-show-logo no
",
        socket = quote(socket),
        data = quote(data),
        pid_file = quote(&data.join(PID_FILE)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_keep_what_was_written_and_open_no_port() {
        let text = settings(Path::new("/tmp/s/redis.sock"), Path::new("/d"), Durability::Durable);
        for line in ["port 0", "appendonly yes", "appendfsync everysec", "unixsocket \"/tmp/s/redis.sock\""] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn an_answer_is_read_to_its_announced_end() {
        assert!(!is_whole(b""));
        assert!(!is_whole(b"+PON"));
        assert!(is_whole(b"+PONG\r\n"));
        assert!(!is_whole(b"$5\r\nabc"));
        assert!(is_whole(b"$5\r\nabcde\r\n"));
    }
}
