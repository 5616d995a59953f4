//! Who the servers run as. PostgreSQL refuses root, so root lends its set to an unprivileged user.

use nix::unistd::{User, geteuid};

use super::error::EmbeddedError;

/// An unprivileged user that root runs the servers under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// Decides who the servers run as; `None` is the caller itself, who is not root.
    ///
    /// The user that a package of PostgreSQL brings, else `nobody`.
    pub fn for_servers() -> Result<Option<Self>, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "_postgres", "nobody"] {
            if let Ok(Some(user)) = User::from_name(name) {
                return Ok(Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
            }
        }
        Err(EmbeddedError::Missing {
            program: "a user for the servers (`postgres` or `nobody`; they refuse to run as root)",
            command: "useradd --system postgres".into(),
            variable: "DATABASE_URL and REDIS_URL",
        })
    }
}
