//! Finds the servers that the machine has: PATH first, then where apt, dnf and Homebrew put them.
//!
//! A data directory is bound to one PostgreSQL major version, so every installed one is a candidate and the
//! directory chooses.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::EmbeddedError;

/// Parents of versioned directories, with what a version's directory starts with and where its programs lie below.
const POSTGRES_PARENTS: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/opt/homebrew", "bin", ""),
    ("/usr/local", "pgsql", "bin"),
    ("/usr", "bin", ""),
];
const PLAIN_DIRECTORIES: [&str; 8] = [
    "/usr/local/bin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/redis/bin",
    "/opt/homebrew/opt/valkey/bin",
    "/home/linuxbrew/.linuxbrew/bin",
];

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBinaries {
    pub initdb: PathBuf,
    pub postgres: PathBuf,
    pub major: String,
}

impl PostgresBinaries {
    /// Finds the PostgreSQL for `data`: of the major version that wrote it, or for a new one the first found.
    pub fn find(path: Option<&OsStr>, data: &Path) -> Result<Self, EmbeddedError> {
        let installed = installed(path);
        let written_by = match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(version) => version.trim().to_owned(),
            Err(_) => return installed.into_iter().next().ok_or_else(missing_postgres),
        };
        if let Some(right) = installed.iter().find(|found| found.major == written_by) {
            return Ok(right.clone());
        }
        let majors: Vec<_> = installed.iter().map(|found| found.major.as_str()).collect();
        Err(EmbeddedError::OtherMajor {
            path: data.into(),
            package: format!(
                "postgresql-{written_by} (apt), postgresql{written_by}-server (dnf), postgresql@{written_by} (brew)"
            ),
            found: written_by,
            installed: match majors.as_slice() {
                [] => "none is installed".into(),
                _ => format!("{} is installed", majors.join(", ")),
            },
        })
    }
}

/// Every PostgreSQL here, in order of preference.
fn installed(path: Option<&OsStr>) -> Vec<PostgresBinaries> {
    let mut found: Vec<PostgresBinaries> = Vec::new();
    for directory in path_directories(path).into_iter().chain(versioned_directories()) {
        // PATH has links (and wrappers beside them); the programs must come from one installation.
        let Ok(initdb) = directory.join("initdb").canonicalize() else { continue };
        let postgres = initdb.with_file_name("postgres");
        if !is_program(&initdb) || !is_program(&postgres) || found.iter().any(|known| known.postgres == postgres) {
            continue;
        }
        if let Some(major) = major_of(&postgres) {
            found.push(PostgresBinaries { initdb, postgres, major });
        }
    }
    found
}

/// The versioned directories there are, the highest version first.
fn versioned_directories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix, below) in POSTGRES_PARENTS {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let mut versions: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let version = name.strip_prefix(prefix)?;
                let version = if version.is_empty() { 0 } else { version.split('.').next()?.parse().ok()? };
                Some((version, entry.path().join(below)))
            })
            .collect();
        versions.sort_by(|left, right| right.cmp(left));
        found.extend(versions.into_iter().map(|(_, path)| path));
    }
    found
}

/// Asks the program itself: `postgres (PostgreSQL) 15.14 (Debian …)`.
fn major_of(postgres: &Path) -> Option<String> {
    let output = std::process::Command::new(postgres).arg("--version").env_clear().output().ok()?;
    parse_major(&String::from_utf8(output.stdout).ok()?)
}

fn parse_major(answer: &str) -> Option<String> {
    let version = answer.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let major: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some(major)
}

/// Finds a Redis; Valkey serves as one.
pub fn redis_server(path: Option<&OsStr>) -> Result<PathBuf, EmbeddedError> {
    let directories = path_directories(path).into_iter().chain(PLAIN_DIRECTORIES.map(PathBuf::from));
    let candidates: Vec<_> = directories.collect();
    ["redis-server", "valkey-server"]
        .into_iter()
        .flat_map(|name| candidates.iter().map(move |directory| directory.join(name)))
        .find(|program| is_program(program))
        .ok_or_else(|| EmbeddedError::Missing {
            program: "Redis (`redis-server` or `valkey-server`)",
            command: install_command("redis-server", "redis", "redis"),
            variable: "REDIS_URL",
        })
}

fn missing_postgres() -> EmbeddedError {
    EmbeddedError::Missing {
        program: "PostgreSQL (`initdb` and `postgres`)",
        command: install_command("postgresql", "postgresql-server", "postgresql@17"),
        variable: "DATABASE_URL",
    }
}

/// The one command of this machine's package manager, else apt's.
fn install_command(apt: &str, dnf: &str, brew: &str) -> String {
    let has = |program: &str| Path::new(program).exists();
    if has("/opt/homebrew/bin/brew") || has("/usr/local/bin/brew") {
        format!("brew install {brew}")
    } else if has("/usr/bin/dnf") {
        format!("dnf install {dnf}")
    } else {
        format!("apt-get install {apt}")
    }
}

fn path_directories(path: Option<&OsStr>) -> Vec<PathBuf> {
    let directories = path.map(std::env::split_paths).into_iter().flatten();
    // An empty or relative entry means the working directory: never where a server should come from.
    directories.filter(|directory| directory.is_absolute()).collect()
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_the_program_says() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n").unwrap(), "15");
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n").unwrap(), "18");
        assert_eq!(parse_major("nonsense"), None);
    }

    #[test]
    fn data_of_another_major_version_is_refused_with_its_package() {
        let data = std::env::temp_dir().join(format!("ordinaut-major-{}", std::process::id()));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "9\n").unwrap();

        let refused = PostgresBinaries::find(None, &data).unwrap_err().to_string();

        assert!(refused.contains("postgresql-9") && refused.contains("untouched"), "{refused}");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn relative_path_entries_are_never_searched() {
        let path = OsStr::new(":bin:/usr/bin");
        assert_eq!(path_directories(Some(path)), [PathBuf::from("/usr/bin")]);
    }
}
