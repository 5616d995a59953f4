//! Where the machine's service manager is told of a set, and whether it is.
//!
//! Read from files alone: whoever asks (each write of a chat does) has no business with the service manager. The
//! files are written by `ordinaut service install`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::layout::{Layout, absolute, home_on_record};

const SYSTEM: &str = "/etc/systemd/system";
const DAEMONS: &str = "/Library/LaunchDaemons";

/// Who starts programs on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceManager {
    Systemd,
    Launchd,
}

impl ServiceManager {
    pub const fn here() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }
}

/// Whose session a service belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceScope {
    /// The person's: it starts when they log in, or with the machine where they linger.
    User,
    /// The machine's.
    System,
}

/// One place where a service may be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUnit {
    pub manager: ServiceManager,
    pub scope: ServiceScope,
    pub file: PathBuf,
    /// What systemd makes to enable it; launchd needs nothing but the file.
    link: Option<PathBuf>,
}

impl ServiceUnit {
    /// As systemd and launchd call it.
    pub const NAME: &str = "ordinaut.service";
    pub const LABEL: &str = "org.ordinaut.ordinaut";

    fn systemd(scope: ServiceScope, directory: &Path) -> Self {
        let target = match scope {
            ServiceScope::User => "default.target.wants",
            ServiceScope::System => "multi-user.target.wants",
        };
        Self {
            manager: ServiceManager::Systemd,
            scope,
            file: directory.join(Self::NAME),
            link: Some(directory.join(target).join(Self::NAME)),
        }
    }

    fn launchd(scope: ServiceScope, directory: &Path) -> Self {
        let file = directory.join(format!("{}.plist", Self::LABEL));
        Self { manager: ServiceManager::Launchd, scope, file, link: None }
    }

    /// Whether it is started without anybody asking.
    pub fn is_enabled(&self) -> bool {
        self.file.is_file() && self.link.as_ref().is_none_or(|link| link.symlink_metadata().is_ok())
    }

    /// Whether it is enabled, and for the set in `layout` rather than for another one.
    pub fn keeps(&self, layout: &Layout) -> bool {
        let names = |text: String| text.contains(&*layout.data_dir.to_string_lossy());
        self.is_enabled() && fs::read_to_string(&self.file).is_ok_and(names)
    }

    /// Undoes enabling where no service manager is there to do it.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove_link(&self) -> std::io::Result<()> {
        match self.link.as_ref().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The places where services of this user's may be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUnits {
    /// `None` where nobody knows a home.
    pub user: Option<ServiceUnit>,
    pub system: ServiceUnit,
}

impl ServiceUnits {
    /// Finds them for user `uid`; `lookup` is the environment outside tests.
    pub fn from_lookup(uid: u32, lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let home = absolute(lookup("HOME")).or_else(|| home_on_record(uid));
        match ServiceManager::here() {
            ServiceManager::Systemd => {
                let settings = absolute(lookup("XDG_CONFIG_HOME")).or_else(|| Some(home?.join(".config")));
                let user = settings.map(|it| ServiceUnit::systemd(ServiceScope::User, &it.join("systemd/user")));
                Self { user, system: ServiceUnit::systemd(ServiceScope::System, Path::new(SYSTEM)) }
            }
            ServiceManager::Launchd => {
                let user = home.map(|it| ServiceUnit::launchd(ServiceScope::User, &it.join("Library/LaunchAgents")));
                Self { user, system: ServiceUnit::launchd(ServiceScope::System, Path::new(DAEMONS)) }
            }
        }
    }

    /// Whether a service keeps the set in `layout` up.
    pub fn keep(&self, layout: &Layout) -> bool {
        self.user.iter().chain([&self.system]).any(|unit| unit.keeps(layout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_kept_up_by_a_service_that_is_enabled_and_names_its_data() {
        let root = std::env::temp_dir().join(format!("ordinaut-unit-{}", std::process::id()));
        let layout = |data: &str| {
            let data = root.join(data).into_os_string();
            Layout::from_lookup(1000, move |name| (name == "ORDINAUT_DATA_DIR").then(|| data.clone()))
        };
        let unit = ServiceUnit::systemd(ServiceScope::User, &root);
        fs::create_dir_all(root.join("default.target.wants")).unwrap();
        assert!(!unit.keeps(&layout("one")), "nothing is there");

        fs::write(&unit.file, format!("ORDINAUT_DATA_DIR={}", root.join("one").display())).unwrap();
        assert!(!unit.keeps(&layout("one")), "it is not enabled");

        std::os::unix::fs::symlink(&unit.file, unit.link.as_ref().unwrap()).unwrap();
        assert!(unit.keeps(&layout("one")));
        assert!(!unit.keeps(&layout("two")), "it keeps another one");
        fs::remove_dir_all(root).unwrap();
    }
}
