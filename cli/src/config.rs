//! What the machine and the operator say: the environment and `ordinaut.toml`, read once.
//!
//! The file is shared by all of Ordinaut's programs; what is not read here is another program's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use ordinaut_schema::time::Zone;
use ordinaut_store::embedded::{ConfigFile, Layout, ServiceUnits};
use ordinaut_store::secrets::KeySource;

use crate::failure::{Exit, Failure};
use crate::operator_file;
use crate::supervise::{DEFAULT_MCP_PORT, MCP_ADDRESS_VARIABLE};

/// Everything the command line can be told besides its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) layout: Layout,
    /// Where a service that keeps the set up may be installed.
    pub(crate) units: ServiceUnits,
    pub(crate) file_exists: bool,
    /// The file of MCP servers.
    pub(crate) mcp_servers: PathBuf,
    /// A database of the operator's own; without it, the embedded set.
    pub(crate) database_url: Option<String>,
    pub(crate) redis_url: Option<String>,
    /// `ORDINAUT_TIMEZONE`.
    pub(crate) timezone: Option<Zone>,
    /// What secrets are encrypted with.
    pub(crate) keys: KeySource,
    /// The environment names a key, and the embedded set has its configuration from files only.
    pub(crate) keys_are_ignored: bool,
    /// Where people reach `ordinaut-mcp http`, for the links they are given: `ORDINAUT_PUBLIC_URL`, or as `public_url` in
    /// the file; by default, where it listens on this machine.
    pub(crate) public_url: String,
    /// What `ordinaut-mcp http` speaks TLS with, for `doctor`.
    pub(crate) certificate: CertificateFiles,
    /// Claude Desktop's file, where this user has a home.
    pub(crate) claude_desktop: Option<PathBuf>,
    /// This program.
    pub(crate) ordinaut: PathBuf,
    /// Every variable of ours that is set, for `doctor`.
    pub(crate) variables: BTreeMap<String, String>,
}

/// The files that `[mcp] tls_certificate` and `tls_key` name.
#[derive(Debug, Clone, Default)]
pub(crate) struct CertificateFiles {
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl CertificateFiles {
    /// What the server speaks.
    fn scheme(&self) -> &'static str {
        if self.certificate.is_some() && self.key.is_some() { "https" } else { "http" }
    }
}

impl Config {
    /// The endpoints of an `ordinaut-mcp http` that listens there: Streamable HTTP, and HTTP+SSE.
    pub(crate) fn mcp_urls(&self, address: SocketAddr) -> [String; 2] {
        ["mcp", "sse"].map(|path| format!("{}://{address}/{path}", self.certificate.scheme()))
    }

    /// Reads the process's environment and the file that it leads to.
    pub(crate) fn from_process() -> Result<Self, Failure> {
        #[expect(clippy::disallowed_methods, reason = "this is the program's configuration, read once")]
        let variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let ordinaut = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Failed, format!("could not find this program's own file: {error}")))?;
        Self::read(&variables, ordinaut)
    }

    fn read(variables: &BTreeMap<OsString, OsString>, ordinaut: PathBuf) -> Result<Self, Failure> {
        let lookup = |name: &str| variables.get(&OsString::from(name)).filter(|value| !value.is_empty()).cloned();
        let layout = Layout::from_lookup(nix::unistd::geteuid().as_raw(), lookup);
        let settings = read_file(&layout.config_file)?;
        let text = |name: &str, key: &str| -> Result<Option<String>, Failure> {
            if let Some(value) = lookup(name) {
                let value = value.into_string();
                return value.map(Some).map_err(|_| Failure::new(Exit::Refused, format!("{name} is not UTF-8 text")));
            }
            match settings.as_ref().and_then(|table| table.get(key)) {
                None => Ok(None),
                Some(toml::Value::String(text)) => Ok(Some(text.clone())),
                Some(other) => {
                    let message =
                        format!("{}: `{key}` is {}, not text", layout.config_file.path.display(), other.type_str());
                    Err(Failure::new(Exit::Refused, message))
                }
            }
        };
        let timezone = match text("ORDINAUT_TIMEZONE", "timezone")? {
            None => None,
            Some(name) => Some(Zone::find(&name).ok_or_else(|| {
                Failure::new(Exit::Refused, format!("the configured time zone `{name}` is no IANA zone"))
                    .mend("write a name such as Europe/Chisinau in ORDINAUT_TIMEZONE or as `timezone` in the file")
            })?),
        };
        let in_executor = settings.as_ref().and_then(|table| table.get("executor")?.get("mcp_servers")?.as_str());
        let mcp_servers = lookup("ORDINAUT_MCP_SERVERS").map(PathBuf::from).or_else(|| in_executor.map(PathBuf::from));
        let of_mcp = |name: &str, key: &str| {
            let in_file = settings.as_ref().and_then(|table| table.get("mcp")?.get(key)?.as_str());
            lookup(name).map(PathBuf::from).or_else(|| in_file.map(PathBuf::from))
        };
        let certificate = CertificateFiles {
            certificate: of_mcp("ORDINAUT_MCP_TLS_CERTIFICATE", "tls_certificate"),
            key: of_mcp("ORDINAUT_MCP_TLS_KEY", "tls_key"),
        };
        let public_url = match text("ORDINAUT_PUBLIC_URL", "public_url")? {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!(
                "{}://{}",
                certificate.scheme(),
                address_of_mcp(lookup(MCP_ADDRESS_VARIABLE), settings.as_ref())
            ),
        };
        let database_url = text("DATABASE_URL", "database_url")?;
        let in_file = settings.as_ref().and_then(|table| table.get("secret_key_file")).and_then(toml::Value::as_str);
        let named = [lookup("ORDINAUT_SECRET_KEY"), lookup("ORDINAUT_SECRET_KEY_FILE")];
        let keys_are_ignored = database_url.is_none() && named.iter().any(Option::is_some);
        let [key, key_file] = if database_url.is_none() { [None, None] } else { named };
        let key_file = key_file.map(PathBuf::from).or_else(|| in_file.map(PathBuf::from));
        let keys = KeySource::choose(
            key.as_ref().map(|key| key.to_string_lossy()).as_deref(),
            key_file.as_deref(),
            &layout.config_dir,
        );
        Ok(Self {
            mcp_servers: mcp_servers.unwrap_or_else(|| layout.config_dir.join("mcp-servers.json")),
            database_url,
            public_url,
            keys,
            certificate,
            keys_are_ignored,
            redis_url: text("REDIS_URL", "redis_url")?,
            timezone,
            layout,
            units: ServiceUnits::from_lookup(nix::unistd::geteuid().as_raw(), lookup),
            file_exists: settings.is_some(),
            claude_desktop: claude_desktop(lookup),
            ordinaut,
            variables: ours(variables),
        })
    }

    /// A program of the same installation.
    pub(crate) fn sibling(&self, name: &str) -> PathBuf {
        self.ordinaut.with_file_name(name)
    }

    /// A program of the same installation that has to be there.
    pub(crate) fn installed(&self, name: &str) -> Result<PathBuf, Failure> {
        let program = self.sibling(name);
        if program.is_file() {
            return Ok(program);
        }
        let message = format!("{} is missing; it belongs beside `ordinaut`", program.display());
        Err(Failure::new(Exit::Missing, message).mend("build all of it: `./just build`, or `cargo build --workspace`"))
    }
}

/// Where `ordinaut-mcp http` listens, with the path under which a proxy shows it.
fn address_of_mcp(variable: Option<OsString>, settings: Option<&toml::Table>) -> String {
    let mcp = settings.and_then(|table| table.get("mcp"));
    let named = |key: &str| mcp.and_then(|mcp| mcp.get(key)).and_then(toml::Value::as_str).map(str::to_owned);
    let address = variable.and_then(|address| address.into_string().ok()).or_else(|| named("listen"));
    let address = address.unwrap_or_else(|| format!("127.0.0.1:{DEFAULT_MCP_PORT}"));
    format!("{address}{}", named("base_path").unwrap_or_default().trim_end_matches('/'))
}

/// Where Claude Desktop keeps its configuration.
fn claude_desktop(lookup: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let home = lookup("HOME").map(PathBuf::from);
    let directory = if cfg!(target_os = "macos") {
        home.map(|home| home.join("Library/Application Support"))
    } else {
        lookup("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home.map(|home| home.join(".config")))
    };
    directory.map(|directory| directory.join("Claude/claude_desktop_config.json"))
}

fn ours(variables: &BTreeMap<OsString, OsString>) -> BTreeMap<String, String> {
    let text = |value: &OsString| value.to_string_lossy().into_owned();
    let known = variables.iter().map(|(name, value)| (text(name), text(value)));
    known
        .filter(|(name, _)| name.starts_with("ORDINAUT_") || matches!(name.as_str(), "DATABASE_URL" | "REDIS_URL"))
        .collect()
}

fn read_file(file: &ConfigFile) -> Result<Option<toml::Table>, Failure> {
    let path = file.path.display();
    let text = file.read().map_err(|error| {
        let mend = if file.is_named {
            "ORDINAUT_CONFIG names it; mend the name or the file's permissions"
        } else {
            "mend the file's permissions, or let ORDINAUT_CONFIG name another"
        };
        Failure::new(Exit::Refused, format!("could not read {path}: {error}")).mend(mend)
    })?;
    let Some(text) = text else { return Ok(None) };
    let table = text.parse::<toml::Table>();
    table.map(Some).map_err(|error| {
        let why = operator_file::syntax(&text, &error);
        Failure::new(Exit::Refused, format!("{path}: {why}"))
    })
}

/// A URL without what only its owner should read: user, password, and the values of its parameters but paths.
pub(crate) fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    let address = match address.rsplit_once('@') {
        Some((_, address)) => format!("…@{address}"),
        None => address.to_owned(),
    };
    let shown = |pair: &str| match pair.split_once('=') {
        Some((name @ ("host" | "port" | "dbname" | "db" | "sslmode"), value)) => format!("{name}={value}"),
        Some((name, _)) => format!("{name}=…"),
        None => "…".to_owned(),
    };
    match query {
        Some(query) => {
            let query: Vec<_> = query.split('&').map(shown).collect();
            format!("{scheme}://{address}?{}", query.join("&"))
        }
        None => format!("{scheme}://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, Failure> {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        Config::read(&variables, "/opt/bin/ordinaut".into())
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        assert_eq!(redacted("postgres://ada:pw@db.example:5432/o"), "postgres://…@db.example:5432/o");
        assert_eq!(
            redacted("postgres:///o?host=/run/o&password=pw&user=x"),
            "postgres:///o?host=/run/o&password=…&user=…"
        );
    }

    #[test]
    fn an_unknown_zone_in_the_environment_is_refused_by_name() {
        let refused = read(&[("ORDINAUT_TIMEZONE", "Mars/Olympus")]).unwrap_err();
        assert!(refused.to_text().contains("Mars/Olympus"), "{}", refused.to_text());
        assert_eq!(refused.code(), 2);
    }

    #[test]
    fn endpoints_and_links_are_https_where_a_certificate_is_given() {
        let urls = |config: &Config| config.mcp_urls("127.0.0.1:7447".parse().unwrap());
        let plain = read(&[("ORDINAUT_MCP_TLS_KEY", "/b.pem")]).unwrap();
        assert_eq!(urls(&plain), ["http://127.0.0.1:7447/mcp", "http://127.0.0.1:7447/sse"]);
        assert!(plain.public_url.starts_with("http://"), "{}", plain.public_url);
        let files = [("ORDINAUT_MCP_TLS_CERTIFICATE", "/a.pem"), ("ORDINAUT_MCP_TLS_KEY", "/b.pem")];
        let secured = read(&files).unwrap();
        assert_eq!(urls(&secured), ["https://127.0.0.1:7447/mcp", "https://127.0.0.1:7447/sse"]);
        assert!(secured.public_url.starts_with("https://"), "{}", secured.public_url);
    }

    #[test]
    fn empty_variables_are_as_good_as_none() {
        let config = read(&[("DATABASE_URL", ""), ("ORDINAUT_DATA_DIR", "/d")]).unwrap();
        assert_eq!(config.database_url, None);
        assert_eq!(config.layout.data_dir, Path::new("/d"));
        assert_eq!(config.sibling("ordinaut-mcp"), Path::new("/opt/bin/ordinaut-mcp"));
    }
}
