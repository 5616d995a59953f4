//! The embedded PostgreSQL: made at the first start, adopted when it still runs, watched, and stopped in order.
//!
//! It listens on a Unix socket in a private directory and trusts who can reach it: peer authentication would not
//! know the users apart when root's servers run under an unprivileged user. A data directory appears whole or not
//! at all: it is made beside its place and renamed into it. The caller holds the set's lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::binaries::PostgresBinaries;
use super::directories::private_directory;
use super::error::EmbeddedError;
use super::launch::{Launch, tail};
use super::process::Process;
use super::site::{Durability, Site, encode};
use super::state::Phase;

/// The owner of the database, and its name.
const OWNER: &str = "ordinaut";
const UNFINISHED: &str = "postgres.new-";
const PORT: u16 = 5432;
const INITDB_LIMIT: Duration = Duration::from_mins(2);
/// Recovery after a crash can take long; the process is watched meanwhile.
const READY_LIMIT: Duration = Duration::from_mins(10);
/// A server found running gets this long to answer before it is taken for stuck.
const ADOPT_LIMIT: Duration = Duration::from_secs(30);
const START_ATTEMPTS: u8 = 4;
const START_DELAY: Duration = Duration::from_millis(500);
const PROBE_LIMIT: Duration = Duration::from_secs(5);
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// Fast shutdown, immediate shutdown, and what is left.
const STOP_STEPS: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(30)),
    (Signal::SIGQUIT, Duration::from_secs(10)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// A PostgreSQL of ours that answers.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub process: Process,
    sockets: PathBuf,
}

impl Postgres {
    /// Adopts the server of `site` if it runs, else starts it, making its data at the first time.
    pub async fn start(site: &Site, on_phase: &mut (impl FnMut(Phase) + Send)) -> Result<Self, EmbeddedError> {
        let data = data_directory(site);
        let binaries = PostgresBinaries::find(site.layout.environment.path.as_deref(), &data)?;
        clear_unfinished(&site.layout.data_dir);
        if !data.join("PG_VERSION").exists() {
            on_phase(Phase::CreatingDatabase);
            initdb(site, &binaries, &data).await?;
        }
        on_phase(Phase::StartingPostgres);
        let found = adopt_or_launch(site, &binaries, &data).await?;
        found.ensure_database().await?;
        Ok(found)
    }

    /// Finds the server of `site`, answering or not: for the one who stops it.
    pub fn find(site: &Site) -> Option<Self> {
        found_running(&data_directory(site))
    }

    /// How programs reach it, as the owner of the database.
    pub fn url(&self) -> String {
        self.url_of(OWNER)
    }

    /// The same server, another database.
    pub fn url_of(&self, database: &str) -> String {
        let sockets = encode(&self.sockets);
        format!("postgres:///{database}?host={sockets}&port={PORT}&user={OWNER}&sslmode=disable")
    }

    /// Whether a new connection is answered in time.
    pub async fn is_healthy(&self) -> bool {
        match timeout(PROBE_LIMIT, self.connect()).await {
            Ok(Ok(connection)) => {
                // The probe has its answer; how the connection ends changes nothing.
                let _ = connection.close().await;
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Shuts it down: clients are cut off, everything committed is kept.
    pub async fn stop(&self) -> Result<(), EmbeddedError> {
        self.process.stop(&STOP_STEPS).await
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.sockets)
            .port(PORT)
            .username(OWNER)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable);
        PgConnection::connect_with(&options).await
    }

    async fn wait_until_healthy(&self, limit: Duration) -> Readiness {
        let deadline = Instant::now() + limit;
        loop {
            if self.is_healthy().await {
                return Readiness::Ready;
            }
            if !self.process.is_alive() {
                return Readiness::Ended;
            }
            if Instant::now() >= deadline {
                return Readiness::Silent;
            }
            sleep(PROBE_INTERVAL).await;
        }
    }

    async fn ensure_database(&self) -> Result<(), EmbeddedError> {
        let create = async {
            let mut connection = self.connect().await?;
            let known: bool = sqlx::query_scalar("select exists (select from pg_database where datname = 'ordinaut')")
                .fetch_one(&mut connection)
                .await?;
            if !known {
                sqlx::query("create database ordinaut").execute(&mut connection).await?;
            }
            connection.close().await
        };
        create.await.map_err(|source| EmbeddedError::Database { doing: "create the database", source })
    }
}

enum Readiness {
    Ready,
    Ended,
    Silent,
}

fn data_directory(site: &Site) -> PathBuf {
    site.layout.data_dir.join("postgres")
}

fn log_file(site: &Site) -> PathBuf {
    site.layout.log_dir().join("postgres.log")
}

/// A start can fail for reasons that pass: children of a killed server that are still ending, or a server that a
/// killed supervisor had only just started and that holds the data already.
async fn adopt_or_launch(site: &Site, binaries: &PostgresBinaries, data: &Path) -> Result<Postgres, EmbeddedError> {
    let mut attempt = 1;
    loop {
        if let Some(found) = adopt(data).await? {
            return Ok(found);
        }
        match launch(site, binaries, data).await {
            Err(EmbeddedError::Ended { .. }) if attempt < START_ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
        sleep(START_DELAY).await;
    }
}

async fn launch(site: &Site, binaries: &PostgresBinaries, data: &Path) -> Result<Postgres, EmbeddedError> {
    let sockets = site.sockets();
    let settings = site.configure("postgresql.conf", &settings(&sockets, site.durability))?;
    let access = site.configure(
        "pg_hba.conf",
        "# The socket's directory is private: who reaches it is trusted.\nlocal all all trust\n",
    )?;
    let identities = site.configure("pg_ident.conf", "")?;
    let log = log_file(site);

    let child = Launch {
        program: &binaries.postgres,
        arguments: vec![
            "-D".into(),
            data.into(),
            "-c".into(),
            format!("config_file={}", settings.display()).into(),
            "-c".into(),
            format!("hba_file={}", access.display()).into(),
            "-c".into(),
            format!("ident_file={}", identities.display()).into(),
        ],
        environment: site.layout.environment.variables(),
        account: site.account.as_ref(),
        session: &site.session,
        log: &log,
    }
    .start()?;
    let ended = || EmbeddedError::Ended { program: "PostgreSQL", log: tail(&log) };
    let postgres = Postgres { process: Process::of_child(&child).ok_or_else(ended)?, sockets };

    match postgres.wait_until_healthy(READY_LIMIT).await {
        Readiness::Ready => Ok(postgres),
        Readiness::Ended => Err(ended()),
        Readiness::Silent => {
            postgres.stop().await?;
            Err(EmbeddedError::NotReady { program: "PostgreSQL", limit: READY_LIMIT, log: tail(&log) })
        }
    }
}

/// Takes over a server that an earlier supervisor left running. One that does not answer is stopped.
async fn adopt(data: &Path) -> Result<Option<Postgres>, EmbeddedError> {
    let Some(found) = found_running(data) else { return Ok(None) };
    match found.wait_until_healthy(ADOPT_LIMIT).await {
        Readiness::Ready => {
            tracing::info!(process.id = found.process.pid, "adopted the PostgreSQL that was running");
            Ok(Some(found))
        }
        Readiness::Ended => Ok(None),
        Readiness::Silent => {
            found.stop().await?;
            Ok(None)
        }
    }
}

/// Reads the server's own note: process number in line 1, socket directory in line 5.
///
/// A number that another program has by now (after a restart of the machine, or in a container) makes PostgreSQL
/// refuse to start, so such a note is removed.
fn found_running(data: &Path) -> Option<Postgres> {
    let path = data.join("postmaster.pid");
    let note = fs::read_to_string(&path).ok()?;
    let lines: Vec<_> = note.lines().map(str::trim).collect();
    let process = Process::find(lines.first()?.parse().ok()?)?;
    if !process.program().is_some_and(|name| name.contains("postgres") || name.contains("postmaster")) {
        // If it cannot be removed, PostgreSQL says so itself, in its log.
        let _ = fs::remove_file(&path);
        return None;
    }
    let sockets = lines.get(4).filter(|line| !line.is_empty())?;
    Some(Postgres { process, sockets: PathBuf::from(sockets) })
}

async fn initdb(site: &Site, binaries: &PostgresBinaries, data: &Path) -> Result<(), EmbeddedError> {
    // Under a name of its own: after a killed supervisor an initdb may still be at work, by path.
    let new = site.layout.data_dir.join(format!("{UNFINISHED}{:08x}", rand::random::<u32>()));
    let log = site.layout.log_dir().join("initdb.log");
    private_directory(&new, 0o700, site.account.as_ref())?;

    // Not every system has C.UTF-8 (older macOS); plain C sorts the same and knows fewer letters.
    for locale in ["C.UTF-8", "C"] {
        let mut arguments = vec!["-D".into(), new.clone().into_os_string()];
        arguments.extend(["-U", OWNER, "--auth=trust", "--encoding=UTF8", "--data-checksums"].map(Into::into));
        arguments.push(format!("--locale={locale}").into());
        if site.durability == Durability::Fast {
            arguments.push("--no-sync".into());
        }
        let mut child = Launch {
            program: &binaries.initdb,
            arguments,
            environment: site.layout.environment.variables(),
            account: site.account.as_ref(),
            session: &site.session,
            log: &log,
        }
        .start()?;
        match timeout(INITDB_LIMIT, child.wait()).await {
            Ok(Ok(status)) if status.success() => {
                return fs::rename(&new, data).map_err(EmbeddedError::io("put into place", data));
            }
            Ok(Ok(_refused)) => {}
            Ok(Err(source)) => return Err(EmbeddedError::io("wait for", &binaries.initdb)(source)),
            Err(_elapsed) => {
                child.kill().await.map_err(EmbeddedError::io("stop", &binaries.initdb))?;
                return Err(EmbeddedError::NotReady { program: "initdb", limit: INITDB_LIMIT, log: tail(&log) });
            }
        }
    }
    Err(EmbeddedError::Ended { program: "initdb", log: tail(&log) })
}

/// Removes what initdbs that did not get to their end have left.
fn clear_unfinished(data_dir: &Path) {
    let Ok(entries) = fs::read_dir(data_dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // One of them may still be writing; the next start gets rid of the rest.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The whole configuration: nothing comes from the file that initdb wrote.
///
/// Memory suits a desktop. An idle transaction is cut off because one alone slows every claim (FINDINGS, Postgres).
fn settings(sockets: &Path, durability: Durability) -> String {
    let safe = if durability == Durability::Durable { "on" } else { "off" };
    // A list of quoted names inside a quoted string.
    let sockets = sockets.display().to_string().replace('"', "\"\"").replace('\'', "''");
    format!(
        "# Written by Ordinaut at each start; changes are lost.
listen_addresses = ''
port = {PORT}
unix_socket_directories = '\"{sockets}\"'
unix_socket_permissions = 0700
cluster_name = 'ordinaut'

fsync = {safe}
full_page_writes = {safe}
synchronous_commit = {safe}

max_connections = 100
track_activity_query_size = 8kB
shared_buffers = 128MB
work_mem = 8MB
maintenance_work_mem = 64MB
effective_cache_size = 1GB
min_wal_size = 80MB
max_wal_size = 1GB
jit = off

idle_in_transaction_session_timeout = 60s
autovacuum_naptime = 15s

timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] '
log_min_messages = warning
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_survive_a_power_cut_and_open_no_port() {
        let text = settings(Path::new("/tmp/it's"), Durability::Durable);
        for line in ["fsync = on", "full_page_writes = on", "synchronous_commit = on", "listen_addresses = ''"] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        assert!(text.contains("unix_socket_directories = '\"/tmp/it''s\"'"));
    }

    #[test]
    fn a_note_about_a_process_that_is_no_postgres_is_removed() {
        let data = std::env::temp_dir().join(format!("ordinaut-note-{}", std::process::id()));
        fs::create_dir(&data).unwrap();
        let pid = std::process::id();
        fs::write(data.join("postmaster.pid"), format!("{pid}\n/d\n1\n5432\n/s\n")).unwrap();

        assert!(found_running(&data).is_none());

        assert!(!data.join("postmaster.pid").exists());
        fs::remove_dir_all(data).unwrap();
    }
}
