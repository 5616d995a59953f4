//! Private directories: made, or found and checked, so that nobody else's is ever trusted.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::unistd::geteuid;

use super::account::Account;
use super::error::EmbeddedError;

/// Makes `path` with exactly `mode`, owned by `owner` (the caller if `None`), or checks the one that is there.
///
/// # Errors
/// [`EmbeddedError::Directory`] for a symbolic link or another owner: in `/tmp` anyone may have been there first.
pub(crate) fn private_directory(path: &Path, mode: u32, owner: Option<&Account>) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(EmbeddedError::io("create the directory", path)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let look = || fs::symlink_metadata(path).map_err(EmbeddedError::io("look at", path));
    let mut found = look()?;
    // Also when it was there: another process may be between making it and giving it away.
    if let Some(owner) = owner.filter(|_| found.is_dir() && found.uid() == geteuid().as_raw()) {
        chown(path, Some(owner.uid), Some(owner.gid)).map_err(EmbeddedError::io("give away", path))?;
        found = look()?;
    }
    let expected = owner.map_or_else(|| geteuid().as_raw(), |owner| owner.uid);
    if let Some(reason) = objection(&found, expected) {
        return Err(EmbeddedError::Directory { path: path.into(), reason });
    }
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(EmbeddedError::io("protect", path))?;
    }
    Ok(())
}

/// What speaks against using what is there, if anything.
fn objection(found: &Metadata, expected: u32) -> Option<String> {
    if found.is_symlink() {
        Some("it is a symbolic link; remove it, or name another directory".into())
    } else if !found.is_dir() {
        Some("it is not a directory; move it away".into())
    } else if found.uid() == expected {
        None
    } else {
        let owner = found.uid();
        Some(format!("it belongs to user {owner} and not to user {expected}; remove it, or name another directory"))
    }
}

/// Checks that `account` may pass through every directory above and including `path`.
pub(crate) fn check_reachable(path: &Path, account: &Account, variable: &str) -> Result<(), EmbeddedError> {
    for directory in path.ancestors() {
        let Ok(found) = directory.metadata() else { continue };
        let bit = if found.uid() == account.uid {
            0o100
        } else if found.gid() == account.gid {
            0o010
        } else {
            0o001
        };
        if found.mode() & bit == 0 {
            let reason = format!(
                "as root the servers run under the user `{}`, who cannot enter {}; set {variable} to a directory \
                 that others may enter, such as /var/lib/ordinaut",
                account.name,
                directory.display()
            );
            return Err(EmbeddedError::Directory { path: path.into(), reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("ordinaut-directories-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_symbolic_link_is_refused() {
        let root = scratch("link");
        fs::create_dir(root.join("real")).unwrap();
        symlink(root.join("real"), root.join("link")).unwrap();

        let refused = private_directory(&root.join("link"), 0o700, None).unwrap_err();

        assert!(refused.to_string().contains("symbolic link"), "{refused}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let root = scratch("owner");
        let found = fs::symlink_metadata(&root).unwrap();

        assert!(objection(&found, found.uid()).is_none());
        assert!(objection(&found, found.uid() + 1).unwrap().contains("belongs to user"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_open_directory_of_ours_is_closed() {
        let root = scratch("open");
        fs::set_permissions(&root, Permissions::from_mode(0o777)).unwrap();

        private_directory(&root, 0o700, None).unwrap();

        assert_eq!(root.metadata().unwrap().mode() & 0o7777, 0o700);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_directory_that_the_servers_cannot_enter_is_named() {
        let root = scratch("closed");
        fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { name: "stranger".into(), uid: u32::MAX - 7, gid: u32::MAX - 7 };

        let refused = check_reachable(&root.join("below"), &stranger, "ORDINAUT_DATA_DIR").unwrap_err().to_string();

        assert!(refused.contains("`stranger`") && refused.contains("ORDINAUT_DATA_DIR"), "{refused}");
        fs::remove_dir_all(root).unwrap();
    }
}
