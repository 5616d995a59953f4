//! Where the embedded set keeps its files: decided from an injected lookup, once.
//!
//! Everything that must be one per set (lock, state, data) lies in the data directory and not beside the sockets:
//! `XDG_RUNTIME_DIR` is set in one context of a person's and missing in the next, and two of them must still find
//! one set. Root's servers run under an unprivileged user, who can enter neither a closed home such as `/root` nor
//! `/run/user/0`: then the system's directories are used.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::config_file::{CONFIG_VARIABLE, ConfigFile};

/// Where root's set lives when no variable says otherwise and the home is closed to the servers' user.
const ROOT_DATA: &str = "/var/lib/ordinaut";
const ROOT_CONFIG: &str = "/etc/ordinaut";

/// The directories of one embedded set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub data_dir: PathBuf,
    pub runtime_dir: PathBuf,
    pub config_dir: PathBuf,
    pub config_file: ConfigFile,
    pub environment: Environment,
}

/// The little that children are given of the caller's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    pub path: Option<OsString>,
    pub lang: Option<OsString>,
    pub tz: Option<OsString>,
}

impl Environment {
    /// The variables as a child receives them.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        [("PATH", &self.path), ("LANG", &self.lang), ("TZ", &self.tz)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.into(), value.clone()?)))
            .collect()
    }
}

impl Layout {
    /// Reads the layout of user `uid` from `lookup`, which is the environment outside tests.
    pub fn from_lookup(uid: u32, lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
        // XDG directories that are not absolute are to be ignored, says their specification.
        let absolute = |name: &str| absolute(lookup(name));
        let home = absolute("HOME").or_else(|| home_on_record(uid)).filter(|home| uid != 0 || is_open_to_others(home));

        let data_dir = explicit(lookup("ORDINAUT_DATA_DIR"))
            .or_else(|| Some(absolute("XDG_DATA_HOME")?.join("ordinaut")))
            .or_else(|| Some(home.as_ref()?.join(".local/share/ordinaut")))
            .unwrap_or_else(|| if uid == 0 { ROOT_DATA.into() } else { format!("/var/tmp/ordinaut-{uid}").into() });
        let config_dir = explicit(lookup("ORDINAUT_CONFIG_DIR"))
            .or_else(|| Some(absolute("XDG_CONFIG_HOME")?.join("ordinaut")))
            // Whatever HOME says: `su`, `sudo` and a service disagree about root's, and all of them mean one machine.
            .or_else(|| (uid == 0).then(|| ROOT_CONFIG.into()))
            .or_else(|| Some(home.as_ref()?.join(".config/ordinaut")))
            .unwrap_or_else(|| data_dir.join("config"));
        let named = lookup(CONFIG_VARIABLE).map(|path| ConfigFile::named(Path::new(&path)));
        let config_file = named.unwrap_or_else(|| ConfigFile::usual(&config_dir));
        let runtime_dir = explicit(lookup("ORDINAUT_RUNTIME_DIR"))
            .or_else(|| Some(absolute("XDG_RUNTIME_DIR").filter(|path| is_theirs(path, uid))?.join("ordinaut")))
            .unwrap_or_else(|| format!("/tmp/ordinaut-{uid}").into());

        let environment = Environment { path: lookup("PATH"), lang: lookup("LANG"), tz: lookup("TZ") };
        Self { data_dir, runtime_dir, config_dir, config_file, environment }
    }

    /// The file whose lock is the right to run this set.
    pub fn lock_file(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    /// Where the supervisor says how far it is and where everything listens.
    pub fn state_file(&self) -> PathBuf {
        self.data_dir.join("state.json")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    pub fn supervisor_log(&self) -> PathBuf {
        self.log_dir().join("supervisor.log")
    }

    /// What a child needs to arrive at this same layout.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.environment.variables();
        variables.push(("ORDINAUT_DATA_DIR".into(), self.data_dir.clone().into()));
        variables.push(("ORDINAUT_RUNTIME_DIR".into(), self.runtime_dir.clone().into()));
        variables.push(("ORDINAUT_CONFIG_DIR".into(), self.config_dir.clone().into()));
        if self.config_file.is_named {
            variables.push((CONFIG_VARIABLE.into(), self.config_file.path.clone().into()));
        }
        variables
    }
}

/// A directory by a variable, if that makes sense.
pub(super) fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A directory that a person named; made absolute, since the servers run elsewhere.
fn explicit(value: Option<OsString>) -> Option<PathBuf> {
    let path = PathBuf::from(value?);
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// The home that the system knows, for a service that was started without the variable.
pub(super) fn home_on_record(uid: u32) -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(uid.into()).ok()??;
    Some(user.dir).filter(|home| home.is_dir())
}

/// Whether another user may pass through every directory down to `path`.
fn is_open_to_others(path: &Path) -> bool {
    path.ancestors().all(|part| part.metadata().is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

/// After `su` the variable may still name the former user's directory. Root's is closed to the servers' user.
fn is_theirs(path: &Path, uid: u32) -> bool {
    uid != 0 && path.metadata().is_ok_and(|found| found.is_dir() && found.uid() == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(uid: u32, variables: &[(&str, &str)]) -> Layout {
        Layout::from_lookup(uid, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn an_ordinary_user_has_everything_under_home_and_sockets_in_tmp() {
        let found = layout(1000, &[("HOME", "/home/ada"), ("LANG", "en"), ("SECRET", "x")]);

        assert_eq!(found.data_dir, Path::new("/home/ada/.local/share/ordinaut"));
        assert_eq!(found.config_dir, Path::new("/home/ada/.config/ordinaut"));
        assert_eq!(found.runtime_dir, Path::new("/tmp/ordinaut-1000"));
        assert_eq!(found.environment.variables(), [("LANG".into(), "en".into())]);
    }

    #[test]
    fn xdg_directories_come_before_home_and_ordinauts_own_before_both() {
        let xdg = [("HOME", "/home/ada"), ("XDG_DATA_HOME", "/d"), ("XDG_CONFIG_HOME", "/c")];
        assert_eq!(layout(1000, &xdg).data_dir, Path::new("/d/ordinaut"));
        assert_eq!(layout(1000, &xdg).config_dir, Path::new("/c/ordinaut"));

        let own = [("XDG_DATA_HOME", "/d"), ("ORDINAUT_DATA_DIR", "/own"), ("ORDINAUT_RUNTIME_DIR", "/r")];
        assert_eq!(layout(1000, &own).data_dir, Path::new("/own"));
        assert_eq!(layout(1000, &own).runtime_dir, Path::new("/r"));
    }

    #[test]
    fn root_uses_system_directories_when_its_home_is_closed_to_the_servers() {
        let home = std::env::temp_dir().join(format!("ordinaut-home-{}", std::process::id()));
        std::fs::create_dir(&home).unwrap();
        let look = || layout(0, &[("HOME", home.to_str().unwrap()), ("XDG_RUNTIME_DIR", "/")]);

        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(look().data_dir, Path::new("/var/lib/ordinaut"));
        assert_eq!(look().config_dir, Path::new("/etc/ordinaut"));
        assert_eq!(look().runtime_dir, Path::new("/tmp/ordinaut-0"));

        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(look().data_dir, home.join(".local/share/ordinaut"));
        assert_eq!(look().config_dir, Path::new("/etc/ordinaut"), "wherever its home happens to be");
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_runtime_directory_of_another_user_is_passed_over() {
        let found = layout(123_456, &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/")]);
        assert_eq!(found.runtime_dir, Path::new("/tmp/ordinaut-123456"));
    }

    #[test]
    fn a_child_given_the_variables_arrives_at_the_same_layout() {
        for more in [("PATH", "/bin"), ("ORDINAUT_CONFIG", "/home/ada/own.toml"), ("ORDINAUT_CONFIG_DIR", "/c")] {
            let found = layout(1000, &[("HOME", "/home/ada"), more]);
            let again = Layout::from_lookup(1000, |name| {
                found.variables().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
            });
            assert_eq!(again, found);
        }
    }

    #[test]
    fn a_named_configuration_file_comes_before_the_directory() {
        let usual = layout(1000, &[("HOME", "/home/ada")]);
        assert_eq!(usual.config_file, ConfigFile::usual(Path::new("/home/ada/.config/ordinaut")));

        let named = layout(1000, &[("HOME", "/home/ada"), ("ORDINAUT_CONFIG", "/x/own.toml")]);
        assert_eq!(named.config_file, ConfigFile { path: "/x/own.toml".into(), is_named: true });
        assert_eq!(named.config_dir, Path::new("/home/ada/.config/ordinaut"), "other files stay where they are");
    }
}
