//! The pair of servers that all test processes of one target directory share.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::geteuid;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};

use crate::embedded::{Durability, Launch, Layout, Postgres, Redis, Session, Site};

const WATCHER: &str = include_str!("watcher.sh");
const LOCK_LIMIT: Duration = Duration::from_mins(2);
const LOCK_INTERVAL: Duration = Duration::from_millis(10);
/// As configured for [`Durability::Fast`]; the first one counts.
const REDIS_DATABASES: u64 = 10_000;

/// A PostgreSQL and a Redis that tests may use.
#[derive(Debug, Clone)]
pub struct Servers {
    pub(super) postgres: PgConnectOptions,
    pub redis_url: String,
}

impl Servers {
    /// Finds the shared pair, or starts it.
    ///
    /// # Panics
    /// When there is none to be had: the test cannot go on.
    pub async fn shared() -> Self {
        let named = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        match (named("ORDINAUT_TEST_DATABASE_URL"), named("ORDINAUT_TEST_REDIS_URL")) {
            (Some(database_url), Some(redis_url)) => Self::at(&database_url, redis_url),
            _ => find_or_start().await,
        }
    }

    pub(super) fn at(database_url: &str, redis_url: String) -> Self {
        let postgres = PgConnectOptions::from_str(database_url).expect("the test database's URL is one");
        Self { postgres: postgres.disable_statement_logging(), redis_url }
    }

    pub(super) async fn fresh_redis_url(&self) -> String {
        let number = count_up(&self.redis_url).await.expect("the test Redis counts") % (REDIS_DATABASES - 1) + 1;
        if self.redis_url.contains("unix:") {
            format!("{}?db={number}", self.redis_url)
        } else {
            format!("{}/{number}", self.redis_url.trim_end_matches('/'))
        }
    }
}

/// Counts in database 0. The one command that the fixtures need does not warrant the crate.
async fn count_up(url: &str) -> Option<u64> {
    const COMMAND: &[u8] = b"INCR ordinaut:test:databases\r\n";
    let mut answer = String::new();
    if let Some(socket) = url.strip_prefix("redis+unix://").or_else(|| url.strip_prefix("unix://")) {
        let mut stream = BufReader::new(UnixStream::connect(socket).await.ok()?);
        stream.write_all(COMMAND).await.ok()?;
        stream.read_line(&mut answer).await.ok()?;
    } else {
        let address = url.strip_prefix("redis://")?.trim_end_matches('/');
        let mut stream = BufReader::new(TcpStream::connect(address).await.ok()?);
        stream.write_all(COMMAND).await.ok()?;
        stream.read_line(&mut answer).await.ok()?;
    }
    answer.strip_prefix(':')?.trim().parse().ok()
}

async fn find_or_start() -> Servers {
    let program = env::current_exe().expect("a test has a program");
    let mut hasher = DefaultHasher::new();
    program.parent().hash(&mut hasher);
    // Short, since sockets lie below; and enterable by the user that root's servers run under.
    let base = PathBuf::from(format!("/tmp/ordinaut-test-{}", geteuid()));
    make_directory(&base);
    let key = format!("{:08x}", hasher.finish() >> 32);

    let lock = File::create(base.join(format!("{key}.lock"))).expect("the test servers' lock can be made");
    let deadline = Instant::now() + LOCK_LIMIT;
    while lock.try_lock().is_err() {
        assert!(Instant::now() < deadline, "another test process has been starting servers for {LOCK_LIMIT:?}");
        sleep(LOCK_INTERVAL).await;
    }
    let pointer = base.join(format!("{key}.current"));
    if let Some(servers) = find(&pointer).await {
        return servers;
    }
    start(&base.join(format!("{key}-{}", std::process::id())), &pointer).await
}

/// The pair that `pointer` names, if it is open and answers.
async fn find(pointer: &Path) -> Option<Servers> {
    let text = fs::read_to_string(pointer).ok()?;
    let [directory, database_url, redis_url] = text.lines().collect::<Vec<_>>().try_into().ok()?;
    // Lease first, then look: the watcher closes first, then looks at the leases.
    leave_lease(Path::new(directory))?;
    if !Path::new(directory).join("open").exists() {
        return None;
    }
    let servers = Servers::at(database_url, redis_url.to_owned());
    let connection = PgConnection::connect_with(&servers.postgres).await.ok()?;
    connection.close().await.ok()?;
    Some(servers)
}

fn leave_lease(directory: &Path) -> Option<()> {
    fs::write(directory.join("leases").join(std::process::id().to_string()), "").ok()
}

async fn start(directory: &Path, pointer: &Path) -> Servers {
    let (site, postgres, _redis) = start_watched(directory, Durability::Fast, env::var_os("PATH")).await;
    fs::write(directory.join("open"), "").expect("the servers can be marked as open");
    let (database_url, redis_url) = (postgres.url(), Redis::url(&site));
    fs::write(pointer, format!("{}\n{database_url}\n{redis_url}\n", directory.display()))
        .expect("the test servers can be announced");
    Servers::at(&database_url, redis_url)
}

/// Starts a pair below `directory`, with a watcher that ends it after this process and all others with a lease.
///
/// The servers' programs are looked for on `path`.
pub(super) async fn start_watched(
    directory: &Path,
    durability: Durability,
    path: Option<OsString>,
) -> (Site, Postgres, Redis) {
    make_directory(directory);
    make_directory(&directory.join("leases"));
    leave_lease(directory).expect("a lease can be left");
    let site = site(directory, durability, path.as_ref());
    let watcher = Launch {
        program: Path::new("/bin/sh"),
        arguments: vec!["-c".into(), WATCHER.into(), "ordinaut-test-servers".into(), directory.into()],
        environment: site.layout.environment.variables(),
        account: None,
        session: &site.session,
        log: &site.layout.log_dir().join("watcher.log"),
    };
    watcher.start().expect("the test servers' watcher starts");
    let postgres = Postgres::start(&site, &mut |_| {}).await.expect("PostgreSQL for tests starts");
    let redis = Redis::start(&site).await.expect("Redis for tests starts");
    (site, postgres, redis)
}

/// A site below `directory` that shares nothing with a real set.
fn site(directory: &Path, durability: Durability, path: Option<&OsString>) -> Site {
    let layout = Layout::from_lookup(geteuid().as_raw(), |name| match name {
        "ORDINAUT_DATA_DIR" => Some(directory.join("d").into()),
        "ORDINAUT_RUNTIME_DIR" => Some(directory.join("r").into()),
        "ORDINAUT_CONFIG_DIR" => Some(directory.join("c").into()),
        "PATH" => path.cloned(),
        _ => None,
    });
    Site::prepare(layout, Session::Group, durability).expect("the test servers' directories can be made")
}

/// Makes a directory that is ours; anyone may have been in `/tmp` before.
pub(super) fn make_directory(path: &Path) {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => panic!("cannot make {}: {error}", path.display()),
        _ => {}
    }
    let found = fs::symlink_metadata(path).expect("a directory just made is there");
    assert!(found.is_dir() && found.uid() == geteuid().as_raw(), "{} belongs to somebody else", path.display());
}
