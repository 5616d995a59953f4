//! A layout whose directories exist, are private, and can be entered by the user that the servers run under.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::account::Account;
use super::directories::{check_reachable, private_directory};
use super::error::EmbeddedError;
use super::launch::Session;
use super::layout::Layout;

/// What a Unix socket's path may have, with the closing NUL, on the strictest system here (macOS).
const SOCKET_PATH_LIMIT: usize = 103;

/// What a crash of the machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed; of Redis a second.
    Durable,
    /// Everything: for tests, which make a new database each.
    Fast,
}

/// Where one PostgreSQL and one Redis live, and how they are started.
#[derive(Debug, Clone)]
pub struct Site {
    pub layout: Layout,
    pub session: Session,
    pub durability: Durability,
    pub(crate) account: Option<Account>,
}

impl Site {
    /// Makes and checks the directories of `layout`.
    pub fn prepare(layout: Layout, session: Session, durability: Durability) -> Result<Self, EmbeddedError> {
        let mut site = Self { layout, session, durability, account: Account::for_servers()? };
        let Layout { data_dir, runtime_dir, .. } = &site.layout;
        for directory in [data_dir, runtime_dir] {
            let parent = directory.parent().unwrap_or(directory);
            fs::create_dir_all(parent).map_err(EmbeddedError::io("create the directory", parent))?;
        }
        if let Some(account) = &site.account {
            check_reachable(data_dir.parent().unwrap_or(data_dir), account, "ORDINAUT_DATA_DIR")?;
            check_reachable(runtime_dir.parent().unwrap_or(runtime_dir), account, "ORDINAUT_RUNTIME_DIR")?;
        }

        // Root's servers must pass through on the way to what is theirs; they can list or change nothing of it.
        let mode = if site.account.is_some() { 0o711 } else { 0o700 };
        // A person may have linked the data to a larger disk: that link is theirs, and is followed.
        if !data_dir.exists() {
            private_directory(data_dir, mode, None)?;
        }
        site.layout.data_dir = data_dir.canonicalize().map_err(EmbeddedError::io("follow", data_dir))?;
        private_directory(&site.layout.data_dir, mode, None)?;
        for name in [".s.PGSQL.5432", "redis.sock"] {
            check_length(&site.sockets().join(name))?;
        }
        private_directory(&site.configuration(), mode, None)?;
        private_directory(&site.layout.log_dir(), 0o700, None)?;
        private_directory(&site.layout.runtime_dir, mode, None)?;
        private_directory(&site.sockets(), 0o700, site.account.as_ref())?;
        Ok(site)
    }

    /// The directory of both sockets: it belongs to the servers' user.
    ///
    /// Named after the data directory, since one person may have two: a server must never be taken for the other's.
    pub(crate) fn sockets(&self) -> PathBuf {
        let digest = Sha256::digest(self.layout.data_dir.as_os_str().as_bytes());
        self.layout.runtime_dir.join(hex::encode(&digest[..4]))
    }

    /// Generated configuration, written anew at each start.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.layout.data_dir.join("conf")
    }

    /// Writes a generated configuration file, readable by the servers' user.
    pub(crate) fn configure(&self, name: &str, text: &str) -> Result<PathBuf, EmbeddedError> {
        use std::os::unix::fs::PermissionsExt;

        let path = self.configuration().join(name);
        fs::write(&path, text).map_err(EmbeddedError::io("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(EmbeddedError::io("open up", &path))?;
        Ok(path)
    }
}

fn check_length(path: &Path) -> Result<(), EmbeddedError> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_LIMIT {
        return Err(EmbeddedError::SocketPathTooLong { path: path.into(), length, limit: SOCKET_PATH_LIMIT });
    }
    Ok(())
}

/// Percent-encodes a path for use in a URL.
pub(crate) fn encode(path: &Path) -> String {
    use std::fmt::Write;

    let mut encoded = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_the_system_would_cut_is_refused_with_the_variable_to_set() {
        let refused = check_length(Path::new(&format!("/{}", "x".repeat(103)))).unwrap_err().to_string();
        assert!(refused.contains("104 bytes") && refused.contains("ORDINAUT_RUNTIME_DIR"), "{refused}");
        check_length(Path::new("/tmp/ordinaut-1000/0a1b2c3d/.s.PGSQL.5432")).unwrap();
    }

    #[test]
    fn a_path_with_blanks_survives_in_a_url() {
        assert_eq!(encode(Path::new("/tmp/my dir&/s")), "/tmp/my%20dir%26/s");
    }
}
