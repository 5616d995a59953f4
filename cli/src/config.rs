//! What the machine and the operator say: the environment and `ordinaut.toml`, read once.
//!
//! The file is shared by all of Ordinaut's programs; what is not read here is another program's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ordinaut_schema::time::Zone;
use ordinaut_store::embedded::Layout;

use crate::{
    failure::{Exit, Failure},
    supervise::{DEFAULT_MCP_PORT, MCP_ADDRESS_VARIABLE},
};

/// Everything the command line can be told besides its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) layout: Layout,
    /// Where `ordinaut.toml` is looked for.
    pub(crate) file: PathBuf,
    pub(crate) file_exists: bool,
    /// A database of the operator's own; without it, the embedded set.
    pub(crate) database_url: Option<String>,
    pub(crate) redis_url: Option<String>,
    /// `ORDINAUT_TIMEZONE`.
    pub(crate) timezone: Option<Zone>,
    /// Where people reach `ordinaut-mcp http`, for the links they are given: `ORDINAUT_PUBLIC_URL`, or as `public_url` in
    /// the file; by default, where it listens on this machine.
    pub(crate) public_url: String,
    /// This program.
    pub(crate) ordinaut: PathBuf,
    /// Every variable of ours that is set, for `doctor`.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Config {
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
        let named = lookup("ORDINAUT_CONFIG").map(PathBuf::from);
        let file = named.clone().unwrap_or_else(|| layout.config_dir.join("ordinaut.toml"));
        let settings = read_file(&file, named.is_some())?;
        let text = |name: &str, key: &str| -> Result<Option<String>, Failure> {
            if let Some(value) = lookup(name) {
                let value = value.into_string();
                return value.map(Some).map_err(|_| Failure::new(Exit::Refused, format!("{name} is not UTF-8 text")));
            }
            match settings.as_ref().and_then(|table| table.get(key)) {
                None => Ok(None),
                Some(toml::Value::String(text)) => Ok(Some(text.clone())),
                Some(other) => {
                    let message = format!("{}: `{key}` is {}, not text", file.display(), other.type_str());
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
        let public_url = match text("ORDINAUT_PUBLIC_URL", "public_url")? {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", address_of_mcp(lookup(MCP_ADDRESS_VARIABLE), settings.as_ref())),
        };
        Ok(Self {
            public_url,
            database_url: text("DATABASE_URL", "database_url")?,
            redis_url: text("REDIS_URL", "redis_url")?,
            timezone,
            layout,
            file_exists: settings.is_some(),
            file,
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

fn ours(variables: &BTreeMap<OsString, OsString>) -> BTreeMap<String, String> {
    let text = |value: &OsString| value.to_string_lossy().into_owned();
    let known = variables.iter().map(|(name, value)| (text(name), text(value)));
    known
        .filter(|(name, _)| name.starts_with("ORDINAUT_") || matches!(name.as_str(), "DATABASE_URL" | "REDIS_URL"))
        .collect()
}

fn read_file(path: &Path, is_named: bool) -> Result<Option<toml::Table>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && !is_named => return Ok(None),
        Err(error) => {
            return Err(Failure::new(Exit::Refused, format!("could not read {}: {error}", path.display()))
                .mend("ORDINAUT_CONFIG names it; mend the name or the file's permissions"));
        }
    };
    let table = text.parse::<toml::Table>();
    table.map(Some).map_err(|error| Failure::new(Exit::Refused, format!("{} is no TOML: {error}", path.display())))
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
    fn empty_variables_are_as_good_as_none() {
        let config = read(&[("DATABASE_URL", ""), ("ORDINAUT_DATA_DIR", "/d")]).unwrap();
        assert_eq!(config.database_url, None);
        assert_eq!(config.layout.data_dir, Path::new("/d"));
        assert_eq!(config.sibling("ordinaut-mcp"), Path::new("/opt/bin/ordinaut-mcp"));
    }
}
