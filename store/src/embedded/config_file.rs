//! Which `ordinaut.toml` is read: one rule for all three programs, by whomever they are started.
//!
//! `ORDINAUT_CONFIG` names the file. Otherwise it is `ordinaut.toml` in the configuration directory: the one that
//! `ORDINAUT_CONFIG_DIR` names, else `$XDG_CONFIG_HOME/ordinaut`, else root's `/etc/ordinaut` and everybody else's
//! `~/.config/ordinaut`. What a person named has to be there; the usual file may be missing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The variable that names the file.
pub(super) const CONFIG_VARIABLE: &str = "ORDINAUT_CONFIG";
const NAME: &str = "ordinaut.toml";

/// The configuration file of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// A person named it, so that it has to be there.
    pub is_named: bool,
}

impl ConfigFile {
    /// A file that a person named.
    pub fn named(path: &Path) -> Self {
        // Children run elsewhere.
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.into()), is_named: true }
    }

    /// The usual file in `directory`.
    pub fn usual(directory: &Path) -> Self {
        Self { path: directory.join(NAME), is_named: false }
    }

    /// Reads it; `None` when the usual file is not there.
    pub fn read(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_named => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_file_may_be_missing_and_a_named_one_may_not() {
        let nowhere = Path::new("/nonexistent/ordinaut");
        assert_eq!(ConfigFile::usual(nowhere).read().unwrap(), None);
        assert_eq!(ConfigFile::named(nowhere).read().unwrap_err().kind(), ErrorKind::NotFound);
    }
}
