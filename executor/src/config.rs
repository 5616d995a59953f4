//! What the operator decides: `ordinaut.toml`, then `ORDINAUT_*`. Everything wrong is told at once.
//!
//! The environment is read once, by the binary, and handed in as a map. The file is shared by all of Ordinaut's
//! programs: what is not listed here is another program's.

use std::{collections::BTreeMap, fmt, net::SocketAddr, num::NonZeroU16, path::PathBuf, time::Duration};

use ordinaut_schema::{
    operator::Operator,
    time::{duration_text, parse_duration},
};
use ordinaut_telemetry::{LogFormat, Traces};
use serde::Deserialize;

use crate::{actions::http::guard::Allowance, operator};

/// No executor may hold a run for longer without renewing its lease.
pub const LONGEST_LEASE: Duration = Duration::from_mins(10);

/// An address that may hold a password. `Debug` shows where it leads and nothing else.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match url::Url::parse(&self.0) {
            Ok(url) => write!(f, "{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path()),
            Err(_) => f.write_str("(unreadable)"),
        }
    }
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info,rmcp=warn,opentelemetry=warn,sqlx=warn".to_owned(), format: LogFormat::Pretty }
    }
}

/// The `[executor]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Executor {
    /// Health and metrics. Unset: 127.0.0.1:7448, or any free port when that is taken.
    pub listen: Option<SocketAddr>,
    /// Attempts at once.
    pub permits: NonZeroU16,
    #[serde(with = "duration_text")]
    pub lease: Duration,
    /// A run whose executor died this often, with nothing of it done in between, is quarantined.
    pub max_crashes: u32,
    /// How long a drain waits for attempts in hand.
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
    #[serde(with = "duration_text")]
    pub abort_timeout: Duration,
    /// Beside these, 2 renew leases, 1 hints, and 1 or 2 listen.
    pub database_connections: u32,
    /// How long a question to the database may stay unanswered before its outcome is taken for unknown.
    #[serde(with = "duration_text")]
    pub database_timeout: Duration,
    /// Addresses beyond the public ones that `http.*` may call.
    pub http_allow: Vec<String>,
    /// The operator's file of MCP servers.
    pub mcp_servers: Option<PathBuf>,
    /// Events that `ordinaut:events` keeps, about.
    pub events_kept: usize,
    #[serde(with = "duration_text")]
    pub history_kept: Duration,
    #[serde(with = "duration_text")]
    pub outbox_kept: Duration,
    /// Above it, the oldest hours of events that wait for Redis go early, with an `events.gap`.
    pub outbox_bytes: u64,
}

impl Default for Executor {
    fn default() -> Self {
        Self {
            listen: None,
            permits: NonZeroU16::new(64).expect("64 is not 0"),
            lease: Duration::from_secs(15),
            max_crashes: 3,
            drain_timeout: Duration::from_secs(30),
            abort_timeout: Duration::from_secs(10),
            database_connections: 12,
            database_timeout: Duration::from_secs(30),
            http_allow: Vec::new(),
            mcp_servers: None,
            events_kept: 100_000,
            history_kept: Duration::from_hours(90 * 24),
            outbox_kept: Duration::from_hours(24),
            outbox_bytes: 1024 * 1024 * 1024,
        }
    }
}

/// Everything this program can be told, as read.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub database_url: Option<ServiceUrl>,
    /// Without it everything works, and events wait in the outbox.
    pub redis_url: Option<ServiceUrl>,
    /// The file of keys that secrets are encrypted with; unset, `secret.key` beside `ordinaut.toml`.
    pub secret_key_file: Option<PathBuf>,
    /// The keys themselves; from the environment only.
    #[serde(skip)]
    pub secret_key: Option<Hidden>,
    /// Where people reach `ordinaut-mcp http`: what a link to decide an approval by begins with.
    pub public_url: Option<String>,
    pub log: Log,
    pub telemetry: Traces,
    pub executor: Executor,
    /// What steps may name: channels, models, commands. Read again while the executor runs.
    #[serde(skip)]
    pub operator: Operator,
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// In our own words: the parser's quote the line, which may hold a credential.
    #[error("ordinaut.toml cannot be read: {0}")]
    File(String),
    #[error("the configuration has mistakes:\n{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

impl Config {
    /// Reads the file's text, then lets the environment overrule it.
    ///
    /// # Errors
    /// The file is no TOML of the right shape, or values make no sense; all of them are told.
    pub fn read(file: Option<&str>, environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let text = file.unwrap_or_default();
        let mut config: Self =
            toml::from_str(text).map_err(|error| ConfigError::File(operator::syntax(text, &error)))?;
        let mut mistakes = Vec::new();
        match operator::read(text) {
            Ok(operator) => config.operator = operator,
            Err(wrong) => mistakes.extend(wrong),
        }
        config.overrule(environment, &mut mistakes);
        config.judge(&mut mistakes);
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(mistakes)) }
    }

    fn overrule(&mut self, environment: &BTreeMap<String, String>, mistakes: &mut Vec<String>) {
        let read = |name: &str| environment.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        let url = |name: &str| read(name).map(|url| ServiceUrl(url.to_owned()));
        let list = |text: &str| text.split([',', ' ']).filter(|it| !it.is_empty()).map(str::to_owned).collect();
        self.database_url = url("DATABASE_URL").or(self.database_url.take());
        self.redis_url = url("REDIS_URL").or(self.redis_url.take());
        self.secret_key = read("ORDINAUT_SECRET_KEY").map(|text| Hidden(text.to_owned()));
        if let Some(path) = read("ORDINAUT_SECRET_KEY_FILE") {
            self.secret_key_file = Some(path.into());
        }
        let public_url = read("ORDINAUT_PUBLIC_URL").map(str::to_owned).or(self.public_url.take());
        self.public_url = public_url.map(|url| url.trim_end_matches('/').to_owned());
        if let Some(filter) = read("ORDINAUT_LOG") {
            filter.clone_into(&mut self.log.filter);
        }
        if let Some(text) = read("ORDINAUT_LOG_FORMAT") {
            match LogFormat::parse(text) {
                Some(format) => self.log.format = format,
                None => mistakes.push(format!("ORDINAUT_LOG_FORMAT is `{text}`; it may be pretty or json")),
            }
        }
        if let Some(endpoint) = read(Traces::VARIABLE) {
            self.telemetry.otlp_endpoint = Some(endpoint.to_owned());
        }
        let executor = &mut self.executor;
        if let Some(text) = read("ORDINAUT_HTTP_ALLOW") {
            executor.http_allow = list(text);
        }
        if let Some(path) = read("ORDINAUT_MCP_SERVERS") {
            executor.mcp_servers = Some(path.into());
        }
        if let Some(text) = read("ORDINAUT_EXECUTOR_LISTEN") {
            match text.parse() {
                Ok(address) => executor.listen = Some(address),
                Err(_) => mistakes.push(format!(
                    "ORDINAUT_EXECUTOR_LISTEN is `{text}`; write an address and a port, such as 127.0.0.1:7448"
                )),
            }
        }
        let mut number = |name: &str, set: &mut dyn FnMut(u16)| {
            let Some(text) = read(name) else { return };
            match text.parse() {
                Ok(number) => set(number),
                Err(_) => mistakes.push(format!("{name} is `{text}`; it is a whole number")),
            }
        };
        let mut permits = None;
        number("ORDINAUT_PERMITS", &mut |n| permits = Some(n));
        number("ORDINAUT_MAX_CRASHES", &mut |n| executor.max_crashes = n.into());
        number("ORDINAUT_DATABASE_CONNECTIONS", &mut |n| executor.database_connections = n.into());
        match permits.map(NonZeroU16::new) {
            None => {}
            Some(Some(permits)) => executor.permits = permits,
            Some(None) => mistakes.push("ORDINAUT_PERMITS is 0; at least one attempt must be able to run".to_owned()),
        }
        for (name, duration) in [
            ("ORDINAUT_LEASE", &mut executor.lease),
            ("ORDINAUT_DATABASE_TIMEOUT", &mut executor.database_timeout),
            ("ORDINAUT_DRAIN_TIMEOUT", &mut executor.drain_timeout),
            ("ORDINAUT_HISTORY_KEPT", &mut executor.history_kept),
        ] {
            match read(name).map(parse_duration) {
                None => {}
                Some(Ok(read)) => *duration = read,
                Some(Err(reason)) => mistakes.push(format!("{name}: {reason}")),
            }
        }
    }

    fn judge(&self, mistakes: &mut Vec<String>) {
        if self.database_url.is_none() {
            mistakes.push(
                "DATABASE_URL is not set: the executor needs a PostgreSQL (`ordinaut up` brings one of its own)"
                    .to_owned(),
            );
        }
        if self.executor.lease < Duration::from_secs(1) || self.executor.lease > LONGEST_LEASE {
            mistakes.push(format!("the lease is {:?}; it may be 1s to 10m", self.executor.lease));
        }
        if self.executor.database_connections < 6 {
            mistakes.push("the executor needs at least 6 database connections".to_owned());
        }
        if self.executor.database_timeout < Duration::from_secs(1) {
            mistakes.push(format!("database_timeout is {:?}; it may not be under 1s", self.executor.database_timeout));
        }
        if let Err(bad) = self.allowances() {
            mistakes.extend(bad);
        }
        mistakes.extend(self.telemetry.mistake());
    }

    /// What `http.*` may call beyond the public addresses.
    ///
    /// # Errors
    /// Every entry that is none.
    pub fn allowances(&self) -> Result<Vec<Allowance>, Vec<String>> {
        let (mut allowed, mut bad) = (Vec::new(), Vec::new());
        for text in &self.executor.http_allow {
            match text.parse::<Allowance>() {
                Ok(allowance) => allowed.push(allowance),
                Err(error) => bad.push(format!("ORDINAUT_HTTP_ALLOW: {error}")),
            }
        }
        if bad.is_empty() { Ok(allowed) } else { Err(bad) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_overrules_the_file() {
        let file = "database_url = \"postgres://a/x\"\n[executor]\npermits = 4\nlease = \"20s\"\n[mcp]\nlisten = \"127.0.0.1:1\"";
        let config = Config::read(Some(file), &environment(&[("ORDINAUT_PERMITS", "8")])).unwrap();
        assert_eq!(config.executor.permits.get(), 8);
        assert_eq!(config.executor.lease, Duration::from_secs(20));
        assert_eq!(config.database_url.unwrap().as_str(), "postgres://a/x");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let pairs = [
            ("ORDINAUT_PERMITS", "many"),
            ("ORDINAUT_LEASE", "soon"),
            ("ORDINAUT_HTTP_ALLOW", "127.0.0.1"),
            ("ORDINAUT_EXECUTOR_LISTEN", "everywhere"),
        ];
        let Err(ConfigError::Invalid(mistakes)) = Config::read(None, &environment(&pairs)) else { panic!("accepted") };
        for name in
            ["ORDINAUT_PERMITS", "ORDINAUT_LEASE", "ORDINAUT_HTTP_ALLOW", "ORDINAUT_EXECUTOR_LISTEN", "DATABASE_URL"]
        {
            assert!(mistakes.iter().any(|mistake| mistake.contains(name)), "{name}: {mistakes:?}");
        }
    }

    #[test]
    fn mistakes_in_the_operators_tables_are_told_with_the_rest_and_no_credential_is_shown() {
        let file = "[channels.a]\nkind = \"slack\"\nurl = \"hunter2\"\n[llm.b]\nkind = \"x\"\n";
        let told = Config::read(Some(file), &environment(&[])).unwrap_err().to_string();
        for part in ["channels.a.url", "llm.b.kind", "DATABASE_URL"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("hunter2"));
        let broken = "[executor]\npermits = \"hunter2\"";
        let told = Config::read(Some(broken), &environment(&[])).unwrap_err().to_string();
        assert!(told.contains("line 2") && !told.contains("permits = "), "{told}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let pairs = [("DATABASE_URL", "postgres://anna:hunter2@db.example/ordinaut?password=hunter2")];
        let shown = format!("{:?}", Config::read(None, &environment(&pairs)).unwrap());
        assert!(shown.contains("postgres://db.example/ordinaut") && !shown.contains("hunter2"), "{shown}");
    }
}
