//! What the operator decides: one [`Config`], from `ordinaut.toml`, then `ORDINAUT_*`, then the command line.
//!
//! The environment is read once, by the binary, and handed in as a map. Everything wrong is told at once. The file
//! is shared by all of Ordinaut's programs: what is not listed here is another program's.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use ordinaut_schema::time::{Zone, duration_text, parse_duration};
use ordinaut_telemetry::{LogFormat, Traces};
use serde::{Deserialize, Serialize};

use crate::{
    guard::{Host, Origin, Pace},
    quota::SessionLimits,
    surface::{Group, Surface},
};

mod exposure;

pub use exposure::{CertificateFiles, Exposed};

/// Everything this program can be told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where PostgreSQL is; without it, Ordinaut runs its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<ServiceUrl>,
    /// Where Redis is; without it, Ordinaut runs its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<ServiceUrl>,
    /// The zone of tasks and agents that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    pub log: Log,
    pub telemetry: Traces,
    pub mcp: Mcp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        // The SDK logs each message at `info`, payload and all.
        Self { filter: "info,rmcp=warn".to_owned(), format: LogFormat::Pretty }
    }
}

/// The `[mcp]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mcp {
    pub listen: SocketAddr,
    /// Where a proxy shows this server, such as `/ordinaut`; empty for the root.
    pub base_path: String,
    pub allowed_hosts: Vec<Host>,
    pub allowed_origins: Vec<Origin>,
    /// Whether a proxy that speaks TLS stands before this server: it may then listen anywhere, and believes the proxy's
    /// `X-Forwarded-For`.
    pub behind_proxy: bool,
    /// A certificate with its chain, and its key, as PEM files: with both, this server speaks TLS itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    pub body_bytes: usize,
    /// Whether only tools that change nothing are offered.
    pub read_only: bool,
    /// The groups of tools that are offered; empty for all.
    pub tools: Vec<Group>,
    /// How long a client may take to say what it wants, and leave a connection unused.
    #[serde(with = "duration_text")]
    pub header_timeout: Duration,
    #[serde(with = "duration_text")]
    pub body_timeout: Duration,
    /// How long a client may leave unread what it is sent.
    #[serde(with = "duration_text")]
    pub write_timeout: Duration,
    pub sessions: usize,
    pub sessions_per_agent: usize,
    pub sessions_opened_per_minute: u32,
    /// How often one agent may call in a minute, and how often at once.
    pub calls_per_minute: u32,
    pub calls_burst: u32,
    /// How long a session is kept in which nothing is said and on which nobody listens.
    #[serde(with = "duration_text")]
    pub session_idle_timeout: Duration,
    #[serde(with = "duration_text")]
    pub initialize_timeout: Duration,
    #[serde(with = "duration_text")]
    pub keep_alive: Duration,
    /// How long a call waits for its turn beside many others.
    #[serde(with = "duration_text")]
    pub turn_timeout: Duration,
    /// How often what is subscribed to is looked at, whether an event came or not.
    #[serde(with = "duration_text")]
    pub look_interval: Duration,
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
    #[serde(with = "duration_text")]
    pub abort_timeout: Duration,
}

impl Default for Mcp {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7447)),
            base_path: String::new(),
            allowed_hosts: Host::loopback(),
            allowed_origins: Origin::loopback(),
            behind_proxy: false,
            tls_certificate: None,
            tls_key: None,
            body_bytes: 1024 * 1024,
            read_only: false,
            tools: Vec::new(),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            sessions: 1_000,
            sessions_per_agent: 200,
            sessions_opened_per_minute: 120,
            calls_per_minute: 600,
            calls_burst: 100,
            session_idle_timeout: Duration::from_mins(5),
            initialize_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            turn_timeout: Duration::from_secs(45),
            look_interval: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            abort_timeout: Duration::from_secs(5),
        }
    }
}

impl Mcp {
    pub fn surface(&self) -> Surface {
        Surface { read_only: self.read_only, groups: self.tools.clone() }
    }

    pub fn session_limits(&self) -> SessionLimits {
        SessionLimits {
            sessions: self.sessions,
            sessions_per_agent: self.sessions_per_agent,
            opened_per_minute: self.sessions_opened_per_minute,
        }
    }

    pub fn calls(&self) -> Pace {
        Pace { per_minute: self.calls_per_minute, burst: self.calls_burst }
    }
}

/// What is wrong with the file, and in which line.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or_else(String::new, |before| format!(" in line {}", before.matches('\n').count() + 1));
    format!("{}{line}", error.message())
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
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::File(syntax(text, &error)))?;
        let mut mistakes = config.overrule(environment);
        let path_end = config.mcp.base_path.trim_end_matches('/').len();
        config.mcp.base_path.truncate(path_end);
        mistakes.extend(config.mistakes());
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(mistakes)) }
    }

    fn overrule(&mut self, environment: &BTreeMap<String, String>) -> Vec<String> {
        let mut mistakes = Vec::new();
        let read = |name: &str| Some(environment.get(name)?.trim()).filter(|text| !text.is_empty());
        if let Some(url) = read("DATABASE_URL") {
            self.database_url = Some(ServiceUrl::new(url));
        }
        if let Some(url) = read("REDIS_URL") {
            self.redis_url = Some(ServiceUrl::new(url));
        }
        if let Some(zone) = read("ORDINAUT_TIMEZONE") {
            self.timezone = Some(zone.to_owned());
        }
        if let Some(filter) = read("ORDINAUT_LOG") {
            filter.clone_into(&mut self.log.filter);
        }
        if let Some(endpoint) = read(Traces::VARIABLE) {
            self.telemetry.otlp_endpoint = Some(endpoint.to_owned());
        }
        if let Some(path) = read("ORDINAUT_MCP_BASE_PATH") {
            path.clone_into(&mut self.mcp.base_path);
        }
        if let Some(path) = read("ORDINAUT_MCP_TLS_CERTIFICATE") {
            self.mcp.tls_certificate = Some(path.into());
        }
        if let Some(path) = read("ORDINAUT_MCP_TLS_KEY") {
            self.mcp.tls_key = Some(path.into());
        }
        // The rest can be unreadable.
        let mut parse = |name: &str, set: &mut dyn FnMut(&str) -> Option<()>| {
            if let Some(text) = read(name)
                && set(text).is_none()
            {
                mistakes.push(format!("{name}: `{text}` cannot be read"));
            }
        };
        let Self { log, mcp, .. } = self;
        parse("ORDINAUT_LOG_FORMAT", &mut |text| replace(&mut log.format, LogFormat::parse(text)));
        parse("ORDINAUT_HTTP_ADDR", &mut |text| replace(&mut mcp.listen, text.parse().ok()));
        parse("ORDINAUT_MCP_READ_ONLY", &mut |text| replace(&mut mcp.read_only, text.parse().ok()));
        parse("ORDINAUT_MCP_BEHIND_PROXY", &mut |text| replace(&mut mcp.behind_proxy, text.parse().ok()));
        parse("ORDINAUT_MCP_CALLS_PER_MINUTE", &mut |text| replace(&mut mcp.calls_per_minute, text.parse().ok()));
        parse("ORDINAUT_MCP_CALLS_BURST", &mut |text| replace(&mut mcp.calls_burst, text.parse().ok()));
        parse("ORDINAUT_MCP_SESSION_IDLE_TIMEOUT", &mut |text| {
            replace(&mut mcp.session_idle_timeout, parse_duration(text).ok())
        });
        parse("ORDINAUT_MCP_ALLOWED_HOSTS", &mut |text| replace(&mut mcp.allowed_hosts, listed(text, Host::parse)));
        parse("ORDINAUT_MCP_ALLOWED_ORIGINS", &mut |text| {
            replace(&mut mcp.allowed_origins, listed(text, Origin::parse))
        });
        if let Some(text) = read("ORDINAUT_MCP_TOOLS")
            && replace(&mut self.mcp.tools, listed(text, Group::parse)).is_none()
        {
            mistakes.push(format!(
                "--tools, ORDINAUT_MCP_TOOLS: `{text}` names a group that is not there; there are {}",
                Group::listed()
            ));
        }
        mistakes
    }

    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Some(zone) = &self.timezone
            && Zone::find(zone).is_none()
        {
            mistakes.push(format!("timezone: `{zone}` is no IANA zone; write a name such as Europe/Chisinau"));
        }
        mistakes.extend(self.telemetry.mistake());
        let mcp = &self.mcp;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        let is_path = mcp.base_path.starts_with('/') && mcp.base_path.bytes().all(plain);
        if !mcp.base_path.is_empty() && !is_path {
            mistakes.push(format!("mcp.base_path: `{}` is no path; write one such as /ordinaut", mcp.base_path));
        }
        for (name, value) in [
            ("body_bytes", mcp.body_bytes),
            ("sessions", mcp.sessions),
            ("sessions_per_agent", mcp.sessions_per_agent),
            ("sessions_opened_per_minute", mcp.sessions_opened_per_minute as usize),
            ("calls_per_minute", mcp.calls_per_minute as usize),
            ("calls_burst", mcp.calls_burst as usize),
        ] {
            if value == 0 {
                mistakes.push(format!("mcp.{name}: 0 would refuse everybody; write 1 or more"));
            }
        }
        for (name, value) in [
            ("header_timeout", mcp.header_timeout),
            ("body_timeout", mcp.body_timeout),
            ("write_timeout", mcp.write_timeout),
            ("initialize_timeout", mcp.initialize_timeout),
            ("keep_alive", mcp.keep_alive),
            ("turn_timeout", mcp.turn_timeout),
            ("look_interval", mcp.look_interval),
            ("session_idle_timeout", mcp.session_idle_timeout),
        ] {
            if value.is_zero() {
                mistakes.push(format!("mcp.{name}: nothing happens in 0s; write a duration such as 15s"));
            }
        }
        mistakes.extend(mcp.half_a_certificate());
        mistakes
    }
}

/// As it would be written in the file, secrets hidden.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string_pretty(self).map_err(|_| fmt::Error)?)
    }
}

fn replace<T>(setting: &mut T, value: Option<T>) -> Option<()> {
    *setting = value?;
    Some(())
}

fn listed<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

/// A URL that may hold a password; shown without it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let (address, query) = rest.split_once('?').map_or((rest, ""), |(address, _)| (address, "?…"));
        let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
        write!(f, "{scheme}://…@{address}{query}")
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ServiceUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
        let file =
            "timezone = 'Europe/Chisinau'\n[mcp]\nlisten = '127.0.0.1:1'\nkeep_alive = '5s'\n[executor]\nslots = 4";
        let config = Config::read(Some(file), &environment(&[("ORDINAUT_HTTP_ADDR", "127.0.0.1:2")])).unwrap();
        assert_eq!(config.mcp.listen.port(), 2);
        assert_eq!(config.mcp.keep_alive, Duration::from_secs(5));
        assert_eq!(config.timezone.as_deref(), Some("Europe/Chisinau"));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let pairs = [("ORDINAUT_TIMEZONE", "Mars/Olympus"), ("ORDINAUT_HTTP_ADDR", "everywhere")];
        let error = Config::read(Some("[mcp]\nsessions = 0"), &environment(&pairs)).unwrap_err().to_string();
        for part in ["Mars/Olympus", "everywhere", "mcp.sessions"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn an_unknown_group_of_tools_is_refused_with_those_that_there_are() {
        let in_file = Config::read(Some("[mcp]\ntools = ['tasks', 'weather']"), &environment(&[])).unwrap_err();
        let given = Config::read(None, &environment(&[("ORDINAUT_MCP_TOOLS", "tasks,weather")])).unwrap_err();
        for error in [in_file.to_string(), given.to_string()] {
            for part in ["weather", "tasks", "runs", "schedules", "actions", "events", "inbox", "approvals"] {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
        let config = Config::read(None, &environment(&[("ORDINAUT_MCP_TOOLS", "runs, tasks")])).unwrap();
        assert_eq!(config.mcp.surface().groups, [Group::Runs, Group::Tasks]);
    }

    #[test]
    fn a_printed_configuration_shows_no_password() {
        let config =
            Config::read(Some("database_url = 'postgres://me:hunter2@db/x?sslpassword=hunter2'"), &environment(&[]))
                .unwrap();
        for shown in [config.to_string(), format!("{config:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("db/x"), "{shown}");
        }
    }
}
